// @ts-check
// The view's texts in every language. The names and tooltips of nodes are in locales/.

const TEXTS = {
  en: { look: "Look", lookTip: "Run this node alone: shows what the query selects, samples nothing", whole: "whole query", opacity: "How strongly the map covers the picture", clear: "Clear points", empty: "Press Look to see what the query selects", click: "Click or draw on what is meant; click a point to remove it", gone: "The picture is gone; press Look", running: "Looking…", off: "This node is muted or bypassed", picture: "The reference under the query’s map", next: "Next picture", seen: "What the vision model sees" },
  zh: { look: "查看", lookTip: "只运行此节点：显示查询选中了什么，不采样", whole: "整个查询", opacity: "注意力图覆盖图像的强度", clear: "清除点", empty: "点击“查看”，看查询选中了什么", click: "点击或涂抹要选的部分；点击已有的点可删除", gone: "图像已不存在；请点击“查看”", running: "查看中…", off: "此节点已静音或绕过", picture: "参考图像与查询的注意力图", next: "下一张图像", seen: "视觉模型看到的内容" },
  ja: { look: "確認", lookTip: "このノードだけを実行：クエリが選ぶ部分を表示し、サンプリングはしません", whole: "クエリ全体", opacity: "マップを画像に重ねる濃さ", clear: "点を消去", empty: "「確認」を押すと、クエリが選ぶ部分が見えます", click: "選びたい部分をクリックまたはなぞってください。点をクリックすると消えます", gone: "画像がもうありません。「確認」を押してください", running: "確認中…", off: "このノードはミュートまたはバイパスされています", picture: "参照画像とクエリのマップ", next: "次の画像", seen: "視覚モデルに見えている範囲" },
  ko: { look: "보기", lookTip: "이 노드만 실행: 쿼리가 무엇을 고르는지 보여 주고 샘플링은 하지 않습니다", whole: "쿼리 전체", opacity: "맵이 이미지를 덮는 정도", clear: "점 지우기", empty: "‘보기’를 누르면 쿼리가 고르는 부분이 보입니다", click: "원하는 부분을 클릭하거나 그으세요. 점을 클릭하면 지워집니다", gone: "이미지가 없습니다. ‘보기’를 누르세요", running: "보는 중…", off: "이 노드는 음소거되었거나 우회 중입니다", picture: "참조 이미지와 쿼리의 맵", next: "다음 이미지", seen: "비전 모델이 보는 것" },
  fr: { look: "Voir", lookTip: "Exécute ce nœud seul : montre ce que la requête choisit, sans échantillonner", whole: "requête entière", opacity: "Intensité de la carte sur l’image", clear: "Effacer les points", empty: "Appuyez sur Voir pour montrer ce que la requête choisit", click: "Cliquez ou dessinez sur ce que vous visez ; cliquez sur un point pour l’enlever", gone: "L’image n’existe plus ; appuyez sur Voir", running: "En cours…", off: "Ce nœud est désactivé ou contourné", picture: "La référence sous la carte de la requête", next: "Image suivante", seen: "Ce que voit le modèle de vision" },
  es: { look: "Ver", lookTip: "Ejecuta solo este nodo: muestra lo que la consulta elige, sin muestrear", whole: "consulta entera", opacity: "Intensidad del mapa sobre la imagen", clear: "Borrar puntos", empty: "Pulsa Ver para mostrar lo que la consulta elige", click: "Haz clic o dibuja sobre lo que quieres; haz clic en un punto para quitarlo", gone: "La imagen ya no existe; pulsa Ver", running: "Mirando…", off: "Este nodo está silenciado u omitido", picture: "La referencia bajo el mapa de la consulta", next: "Imagen siguiente", seen: "Lo que ve el modelo de visión" },
  de: { look: "Ansehen", lookTip: "Nur diesen Node ausführen: zeigt, was die Abfrage auswählt, ohne zu sampeln", whole: "ganze Abfrage", opacity: "Wie stark die Karte das Bild überdeckt", clear: "Punkte löschen", empty: "Mit „Ansehen“ zeigt sich, was die Abfrage auswählt", click: "Anklicken oder übermalen, was gemeint ist; ein Klick auf einen Punkt entfernt ihn", gone: "Das Bild ist nicht mehr da; „Ansehen“ drücken", running: "Wird angesehen …", off: "Dieser Node ist stummgeschaltet oder wird umgangen", picture: "Die Referenz unter der Karte der Abfrage", next: "Nächstes Bild", seen: "Was das Vision-Modell sieht" },
  ru: { look: "Показать", lookTip: "Выполнить только этот узел: показывает, что выбирает запрос, без сэмплирования", whole: "весь запрос", opacity: "Насколько карта перекрывает изображение", clear: "Убрать точки", empty: "Нажмите «Показать», чтобы увидеть, что выбирает запрос", click: "Щёлкните или обведите нужное; щелчок по точке удаляет её", gone: "Изображения больше нет; нажмите «Показать»", running: "Просмотр…", off: "Этот узел отключён или обходится", picture: "Референс под картой запроса", next: "Следующее изображение", seen: "Что видит модель зрения" },
};

/** What is different where objects are shown, which no query selects. */
const OF_OBJECTS = {
  en: { lookTip: "Run this node alone: shows what the vision model sees, samples nothing", empty: "Press Look to see what the vision model sees", picture: "The reference, dark where it is not the object" },
  zh: { lookTip: "只运行此节点：显示视觉模型看到的内容，不采样", empty: "点击“查看”，看视觉模型看到了什么", picture: "参考图像，物体之外变暗" },
  ja: { lookTip: "このノードだけを実行：視覚モデルに見える範囲を表示し、サンプリングはしません", empty: "「確認」を押すと、視覚モデルに見える範囲がわかります", picture: "参照画像。オブジェクト以外は暗くなります" },
  ko: { lookTip: "이 노드만 실행: 비전 모델이 보는 것을 보여 주고 샘플링은 하지 않습니다", empty: "‘보기’를 누르면 비전 모델이 보는 것이 나타납니다", picture: "참조 이미지. 오브젝트가 아닌 곳은 어둡습니다" },
  fr: { lookTip: "Exécute ce nœud seul : montre ce que voit le modèle de vision, sans échantillonner", empty: "Appuyez sur Voir pour montrer ce que voit le modèle de vision", picture: "La référence, sombre hors de l’objet" },
  es: { lookTip: "Ejecuta solo este nodo: muestra lo que ve el modelo de visión, sin muestrear", empty: "Pulsa Ver para mostrar lo que ve el modelo de visión", picture: "La referencia, oscura fuera del objeto" },
  de: { lookTip: "Nur diesen Node ausführen: zeigt, was das Vision-Modell sieht, ohne zu sampeln", empty: "Mit „Ansehen“ zeigt sich, was das Vision-Modell sieht", picture: "Die Referenz, dunkel außerhalb des Objekts" },
  ru: { lookTip: "Выполнить только этот узел: показывает, что видит модель зрения, без сэмплирования", empty: "Нажмите «Показать», чтобы увидеть, что видит модель зрения", picture: "Референс, затемнённый вне объекта" },
};

/** @typedef {typeof TEXTS.en} Texts */

/**
 * @param {unknown} locale such as "zh" or "zh-TW" @param {boolean} objects whether objects are shown, not subjects
 * @returns {Texts}
 */
export function textsFor(locale, objects = false) {
  const found = String(locale ?? "en").split("-")[0];
  const language = /** @type {keyof typeof TEXTS} */ (Object.hasOwn(TEXTS, found) ? found : "en");
  return objects ? { ...TEXTS[language], ...OF_OBJECTS[language] } : TEXTS[language];
}

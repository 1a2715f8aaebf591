// @ts-check
// The view's texts in every language. The names and tooltips of nodes are in locales/.

const TEXTS = {
  en: { look: "Look", lookTip: "Run this node alone: shows what the query selects, samples nothing", whole: "whole query", opacity: "How strongly the map covers the picture", clear: "Clear points", empty: "Press Look to see what the query selects", click: "Click or draw on what is meant; click a point to remove it", gone: "The picture is gone; press Look", running: "Looking…", off: "This node is muted or bypassed", picture: "The reference under the query’s map", next: "Next picture", seen: "What the vision model sees", stale: "Changed since: press Look", nothing: "Nothing says what to take: write a query, connect a mask, or click on the picture", outside: "Outside the frame nothing is seen. Choose another fit, or move the frame", dropped: "What was set in the former picture is gone", back: "Bring back", unframe: "Whole picture", frame: "Drag the frame’s edges or corners, or use the arrow keys (Shift resizes)" },
  zh: { look: "查看", lookTip: "只运行此节点：显示查询选中了什么，不采样", whole: "整个查询", opacity: "注意力图覆盖图像的强度", clear: "清除点", empty: "点击“查看”，看查询选中了什么", click: "点击或涂抹要选的部分；点击已有的点可删除", gone: "图像已不存在；请点击“查看”", running: "查看中…", off: "此节点已静音或绕过", picture: "参考图像与查询的注意力图", next: "下一张图像", seen: "视觉模型看到的内容", stale: "已有改动：请点击“查看”", nothing: "还没有说明要取什么：请填写查询词、连接遮罩，或在图像上点击", outside: "虚线框之外模型看不到。请更换适配方式，或移动虚线框", dropped: "在上一张图像上所作的标记已移除", back: "恢复", unframe: "整张图像", frame: "拖动虚线框的边或角，或使用方向键（按住 Shift 调整大小）" },
  ja: { look: "確認", lookTip: "このノードだけを実行：クエリが選ぶ部分を表示し、サンプリングはしません", whole: "クエリ全体", opacity: "マップを画像に重ねる濃さ", clear: "点を消去", empty: "「確認」を押すと、クエリが選ぶ部分が見えます", click: "選びたい部分をクリックまたはなぞってください。点をクリックすると消えます", gone: "画像がもうありません。「確認」を押してください", running: "確認中…", off: "このノードはミュートまたはバイパスされています", picture: "参照画像とクエリのマップ", next: "次の画像", seen: "視覚モデルに見えている範囲", stale: "変更されました。「確認」を押してください", nothing: "何を取り出すか指定されていません。クエリを書くか、マスクをつなぐか、画像をクリックしてください", outside: "枠の外はモデルに見えません。合わせ方を変えるか、枠を動かしてください", dropped: "前の画像での指定を消しました", back: "元に戻す", unframe: "画像全体", frame: "枠の辺や角をドラッグするか、矢印キーで動かせます（Shiftで大きさを変更）" },
  ko: { look: "보기", lookTip: "이 노드만 실행: 쿼리가 무엇을 고르는지 보여 주고 샘플링은 하지 않습니다", whole: "쿼리 전체", opacity: "맵이 이미지를 덮는 정도", clear: "점 지우기", empty: "‘보기’를 누르면 쿼리가 고르는 부분이 보입니다", click: "원하는 부분을 클릭하거나 그으세요. 점을 클릭하면 지워집니다", gone: "이미지가 없습니다. ‘보기’를 누르세요", running: "보는 중…", off: "이 노드는 음소거되었거나 우회 중입니다", picture: "참조 이미지와 쿼리의 맵", next: "다음 이미지", seen: "비전 모델이 보는 것", stale: "변경되었습니다. ‘보기’를 누르세요", nothing: "무엇을 가져올지 정해지지 않았습니다. 쿼리를 쓰거나 마스크를 연결하거나 이미지를 클릭하세요", outside: "틀 밖은 모델이 보지 못합니다. 맞춤을 바꾸거나 틀을 옮기세요", dropped: "이전 이미지에서 지정한 것을 지웠습니다", back: "되돌리기", unframe: "이미지 전체", frame: "틀의 변이나 모서리를 끌거나 화살표 키를 쓰세요(Shift는 크기 조절)" },
  fr: { look: "Voir", lookTip: "Exécute ce nœud seul : montre ce que la requête choisit, sans échantillonner", whole: "requête entière", opacity: "Intensité de la carte sur l’image", clear: "Effacer les points", empty: "Appuyez sur Voir pour montrer ce que la requête choisit", click: "Cliquez ou dessinez sur ce que vous visez ; cliquez sur un point pour l’enlever", gone: "L’image n’existe plus ; appuyez sur Voir", running: "En cours…", off: "Ce nœud est désactivé ou contourné", picture: "La référence sous la carte de la requête", next: "Image suivante", seen: "Ce que voit le modèle de vision", stale: "Modifié depuis : appuyez sur Voir", nothing: "Rien ne dit quoi prendre : écrivez une requête, connectez un masque ou cliquez sur l’image", outside: "Hors du cadre, rien n’est vu. Changez d’ajustement ou déplacez le cadre", dropped: "Ce qui était indiqué sur l’image précédente est retiré", back: "Rétablir", unframe: "Image entière", frame: "Faites glisser les bords ou les coins du cadre, ou utilisez les flèches (Maj redimensionne)" },
  es: { look: "Ver", lookTip: "Ejecuta solo este nodo: muestra lo que la consulta elige, sin muestrear", whole: "consulta entera", opacity: "Intensidad del mapa sobre la imagen", clear: "Borrar puntos", empty: "Pulsa Ver para mostrar lo que la consulta elige", click: "Haz clic o dibuja sobre lo que quieres; haz clic en un punto para quitarlo", gone: "La imagen ya no existe; pulsa Ver", running: "Mirando…", off: "Este nodo está silenciado u omitido", picture: "La referencia bajo el mapa de la consulta", next: "Imagen siguiente", seen: "Lo que ve el modelo de visión", stale: "Ha cambiado: pulsa Ver", nothing: "Nada dice qué tomar: escribe una consulta, conecta una máscara o haz clic en la imagen", outside: "Fuera del marco no se ve nada. Cambia el ajuste o mueve el marco", dropped: "Se quitó lo indicado en la imagen anterior", back: "Recuperar", unframe: "Imagen entera", frame: "Arrastra los bordes o las esquinas del marco, o usa las flechas (Mayús cambia el tamaño)" },
  de: { look: "Ansehen", lookTip: "Nur diesen Node ausführen: zeigt, was die Abfrage auswählt, ohne zu sampeln", whole: "ganze Abfrage", opacity: "Wie stark die Karte das Bild überdeckt", clear: "Punkte löschen", empty: "Mit „Ansehen“ zeigt sich, was die Abfrage auswählt", click: "Anklicken oder übermalen, was gemeint ist; ein Klick auf einen Punkt entfernt ihn", gone: "Das Bild ist nicht mehr da; „Ansehen“ drücken", running: "Wird angesehen …", off: "Dieser Node ist stummgeschaltet oder wird umgangen", picture: "Die Referenz unter der Karte der Abfrage", next: "Nächstes Bild", seen: "Was das Vision-Modell sieht", stale: "Seitdem geändert: „Ansehen“ drücken", nothing: "Nichts sagt, was gemeint ist: Abfrage schreiben, Maske verbinden oder ins Bild klicken", outside: "Außerhalb des Rahmens wird nichts gesehen. Andere Einpassung wählen oder den Rahmen verschieben", dropped: "Was im vorigen Bild gesetzt war, ist entfernt", back: "Zurückholen", unframe: "Ganzes Bild", frame: "Rahmen an Kanten oder Ecken ziehen oder mit den Pfeiltasten bewegen (Umschalt ändert die Größe)" },
  ru: { look: "Показать", lookTip: "Выполнить только этот узел: показывает, что выбирает запрос, без сэмплирования", whole: "весь запрос", opacity: "Насколько карта перекрывает изображение", clear: "Убрать точки", empty: "Нажмите «Показать», чтобы увидеть, что выбирает запрос", click: "Щёлкните или обведите нужное; щелчок по точке удаляет её", gone: "Изображения больше нет; нажмите «Показать»", running: "Просмотр…", off: "Этот узел отключён или обходится", picture: "Референс под картой запроса", next: "Следующее изображение", seen: "Что видит модель зрения", stale: "Изменено: нажмите «Показать»", nothing: "Не сказано, что взять: напишите запрос, подключите маску или щёлкните по изображению", outside: "Вне рамки модель ничего не видит. Выберите другую подгонку или передвиньте рамку", dropped: "Отметки прежнего изображения убраны", back: "Вернуть", unframe: "Всё изображение", frame: "Перетаскивайте края и углы рамки или пользуйтесь стрелками (Shift меняет размер)" },
};

/** What is different where objects are shown, which no query selects. */
const OF_OBJECTS = {
  en: { lookTip: "Run this node alone: shows what the vision model sees, samples nothing", empty: "Press Look to see what the vision model sees", picture: "The reference, dark where it is not the object", nothing: "The object has no name. Say what it is, in a word or two" },
  zh: { lookTip: "只运行此节点：显示视觉模型看到的内容，不采样", empty: "点击“查看”，看视觉模型看到了什么", picture: "参考图像，物体之外变暗", nothing: "物体还没有名称。请用一两个英文单词说明它是什么" },
  ja: { lookTip: "このノードだけを実行：視覚モデルに見える範囲を表示し、サンプリングはしません", empty: "「確認」を押すと、視覚モデルに見える範囲がわかります", picture: "参照画像。オブジェクト以外は暗くなります", nothing: "オブジェクトに名前がありません。何であるかを英語で一、二語で書いてください" },
  ko: { lookTip: "이 노드만 실행: 비전 모델이 보는 것을 보여 주고 샘플링은 하지 않습니다", empty: "‘보기’를 누르면 비전 모델이 보는 것이 나타납니다", picture: "참조 이미지. 오브젝트가 아닌 곳은 어둡습니다", nothing: "오브젝트에 이름이 없습니다. 무엇인지 영어 한두 단어로 쓰세요" },
  fr: { lookTip: "Exécute ce nœud seul : montre ce que voit le modèle de vision, sans échantillonner", empty: "Appuyez sur Voir pour montrer ce que voit le modèle de vision", picture: "La référence, sombre hors de l’objet", nothing: "L’objet n’a pas de nom. Dites ce que c’est en un ou deux mots" },
  es: { lookTip: "Ejecuta solo este nodo: muestra lo que ve el modelo de visión, sin muestrear", empty: "Pulsa Ver para mostrar lo que ve el modelo de visión", picture: "La referencia, oscura fuera del objeto", nothing: "El objeto no tiene nombre. Di qué es con una o dos palabras" },
  de: { lookTip: "Nur diesen Node ausführen: zeigt, was das Vision-Modell sieht, ohne zu sampeln", empty: "Mit „Ansehen“ zeigt sich, was das Vision-Modell sieht", picture: "Die Referenz, dunkel außerhalb des Objekts", nothing: "Das Objekt hat keinen Namen. Mit ein oder zwei Wörtern sagen, was es ist" },
  ru: { lookTip: "Выполнить только этот узел: показывает, что видит модель зрения, без сэмплирования", empty: "Нажмите «Показать», чтобы увидеть, что видит модель зрения", picture: "Референс, затемнённый вне объекта", nothing: "У объекта нет имени. Скажите одним-двумя словами, что это" },
};

/** Of a click outside the frame, in a node that has no other fit. */
const OUTSIDE_CROP = {
  en: "Outside the frame nothing is seen. Move or enlarge the frame",
  zh: "虚线框之外模型看不到。请移动或放大虚线框",
  ja: "枠の外はモデルに見えません。枠を動かすか広げてください",
  ko: "틀 밖은 모델이 보지 못합니다. 틀을 옮기거나 넓히세요",
  fr: "Hors du cadre, rien n’est vu. Déplacez ou agrandissez le cadre",
  es: "Fuera del marco no se ve nada. Mueve o agranda el marco",
  de: "Außerhalb des Rahmens wird nichts gesehen. Den Rahmen verschieben oder vergrößern",
  ru: "Вне рамки модель ничего не видит. Передвиньте или увеличьте рамку",
};

/** Beside what is missing, while there is no picture to click on. */
const FIRST = {
  en: "Look shows the picture",
  zh: "“查看”会显示图像",
  ja: "「確認」で画像が表示されます",
  ko: "‘보기’를 누르면 이미지가 나타납니다",
  fr: "Voir montre l’image",
  es: "Ver muestra la imagen",
  de: "„Ansehen“ zeigt das Bild",
  ru: "«Показать» покажет изображение",
};

/** Where objects are encoded and nothing is marked. */
const EVERYTHING = {
  en: "No mask and no click: the whole picture counts as the object",
  zh: "没有遮罩也没有点击：整张图像都算作物体",
  ja: "マスクもクリックもないため、画像全体がオブジェクトになります",
  ko: "마스크도 클릭도 없음: 이미지 전체를 오브젝트로 봅니다",
  fr: "Ni masque ni clic : toute l’image compte comme l’objet",
  es: "Sin máscara ni clic: toda la imagen cuenta como objeto",
  de: "Weder Maske noch Klick: Das ganze Bild gilt als Objekt",
  ru: "Нет ни маски, ни щелчка: объектом считается всё изображение",
};

/** In nodes that read a file, before they have run. */
const FILE = {
  en: "Press Look to see what is in the file",
  zh: "点击“查看”，看文件里有什么",
  ja: "「確認」を押すと、ファイルの中身がわかります",
  ko: "‘보기’를 누르면 파일의 내용이 나타납니다",
  fr: "Appuyez sur Voir pour montrer ce que contient le fichier",
  es: "Pulsa Ver para mostrar lo que hay en el archivo",
  de: "Mit „Ansehen“ zeigt sich, was in der Datei ist",
  ru: "Нажмите «Показать», чтобы увидеть, что в файле",
};
const READ_FILES = ["SSR_LoadSubject", "SSR_LoadObjectsMIP", "SSR_LoadSubjectELITE"];

/** @typedef {typeof TEXTS.en & { first: string, everything: string }} Texts */

/** The language in which the view speaks. @param {unknown} locale such as "zh" or "zh-TW" @returns {keyof typeof TEXTS} */
export function languageOf(locale) {
  const found = String(locale ?? "en").split("-")[0];
  return /** @type {keyof typeof TEXTS} */ (Object.hasOwn(TEXTS, found) ? found : "en");
}

/** @param {unknown} locale @param {string} type of the node @param {boolean} objects whether it shows objects, not subjects @returns {Texts} */
export function textsFor(locale, type, objects = false) {
  const language = languageOf(locale);
  const pointing = type === "SSR_SelectByPoints" ? { nothing: TEXTS[language].click } : {};
  const fitless = type === "SSR_EncodeSubjectELITE" ? { outside: OUTSIDE_CROP[language] } : {};
  const reading = READ_FILES.includes(type) ? { empty: FILE[language] } : {};
  const own = { ...(objects ? OF_OBJECTS[language] : {}), ...pointing, ...fitless, ...reading };
  return { ...TEXTS[language], ...own, first: FIRST[language], everything: EVERYTHING[language] };
}

// The frontend serves these beside every pack's folder; their types come from its published package.
declare module "*/scripts/app.js" {
  export const app: import("@comfyorg/comfyui-frontend-types").ComfyApp;
}
declare module "*/scripts/widgets.js" {
  /** The host's own widgets. The published types leave out what a pack needs of them. */
  export const ComfyWidgets: {
    STRING(node: FrontendNode, name: string, spec: [string, object], app: unknown): { widget: FrontendWidget };
  };
}
declare module "*/scripts/api.js" {
  export const api: import("@comfyorg/comfyui-frontend-types").ComfyApi;
}

/** The frontend's globals that its packs need. */
declare const LiteGraph: { vueNodesMode?: boolean };
declare const LGraphCanvas: { link_type_colors: Record<string, any> };

type ComfyExtension = import("@comfyorg/comfyui-frontend-types").ComfyExtension;

/** LiteGraph's node with what the frontend adds to it and its published types leave out. */
type FrontendNode = Parameters<NonNullable<ComfyExtension["nodeCreated"]>>[0] & {
  onExecuted?: (this: FrontendNode, output: unknown) => void;
  addDOMWidget<T extends HTMLElement>(
    name: string,
    type: string,
    element: T,
    options: import("@comfyorg/comfyui-frontend-types").DOMWidgetOptions<string>,
  ): { serialize?: boolean; beforeQueued?: () => void };
};

interface FrontendWidget {
  value: unknown;
  serialize?: boolean;
  options: { serialize?: boolean; read_only?: boolean; getMinHeight?: () => number };
}

// @ts-check
// Runs of one node and of what it needs, in front of everything that is queued, one at a time.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { executionId, liveNodes } from "./graph.js";

export class SoloRun {
  /**
   * @param {any} node
   * @param {{ queue: () => Promise<boolean>, running: (running: boolean) => void }} owner queue: queues it, and says whether it was taken
   */
  constructor(node, owner) {
    this.node = node;
    this.owner = owner;
    /** @type {AbortController | null} of the run that is queued or under way */ this.listening = null;
    this.again = false;
  }

  /** While a run is waiting, any number of calls become one more run after it. */
  start() {
    if (this.listening) {
      this.again = true;
      return;
    }
    const listening = new AbortController();
    this.listening = listening;
    this.again = false;
    this.owner.running(true);
    const { signal } = listening;
    /** @type {unknown} id of the first prompt to start from now on: ours, as it is queued in front */ let prompt;
    let queued = false;
    let counted = false;
    api.addEventListener("execution_start", ({ detail }) => (prompt ??= detail.prompt_id), { signal });
    api.addEventListener("execution_error", ({ detail }) => void (detail.prompt_id === prompt && this.finish()), { signal });
    api.addEventListener("execution_interrupted", ({ detail }) => void (detail.prompt_id === prompt && this.stop()), { signal });
    // If the queue is empty and we had no result, it was cleared, or the connection was lost for a while. But before our prompt has been
    // counted, an empty queue is the end of the prompt before ours, which may reach us after the answer to ours.
    api.addEventListener("reconnected", () => void (counted = true), { signal });
    api.addEventListener("status", ({ detail }) => {
      if (detail?.exec_info?.queue_remaining) counted = true;
      else if (queued && (counted || !detail)) this.stop();
    }, { signal });
    const target = executionId(this.node);
    const answered = async (/** @type {boolean} */ ok) => {
      queued = true;
      // Older frontends answer false to everything.
      const refused = !ok && !(await isQueued(target));
      if (refused && this.listening === listening) this.stop();
    };
    this.owner.queue().then(answered, (error) => {
      void answered(false);
      throw error;
    });
  }

  /** The node has a result, or an error. */
  finish() {
    const { again } = this;
    this.stop();
    if (again) this.start();
  }

  stop() {
    if (!this.listening) return;
    this.listening.abort();
    this.listening = null;
    this.again = false;
    this.owner.running(false);
  }
}

/**
 * Whether a run of this node alone is queued or under way. For older frontends: with newer ones the queue does not tell which nodes run.
 * @param {string} target
 */
async function isQueued(target) {
  const { Running: running, Pending: pending } = /** @type {any} */ (await api.getQueue());
  return [...running, ...pending].some(({ prompt }) => prompt?.[4].length === 1 && prompt[4][0] === target);
}

/** Queues a node and what it needs, in front of everything. @param {any} node */
export function queueAlone(node) {
  return withoutSeedControl(() => app.queuePrompt(-1, 1, /** @type {any} */ ([executionId(node)])));
}

/**
 * Queues a prompt without changing seeds, which the frontend otherwise does after every prompt. Newer frontends tell widgets what they
 * queue, and leave seeds alone if only a part of the graph runs; older ones tell nothing and change them.
 * @param {() => Promise<boolean>} queue @returns {Promise<boolean>}
 */
function withoutSeedControl(queue) {
  const widgets = liveNodes().flatMap((node) => node.widgets ?? []);
  const controls = widgets.filter((widget) => widget.beforeQueued && widget.afterQueued);
  const callbacks = controls.map(({ beforeQueued, afterQueued }) => ({ beforeQueued, afterQueued }));
  controls.forEach((control, number) => {
    const { beforeQueued, afterQueued } = callbacks[number];
    control.beforeQueued = (/** @type {unknown} */ options) => void (options && beforeQueued?.call(control, options));
    control.afterQueued = (/** @type {unknown} */ options) => void (options && afterQueued?.call(control, options));
  });
  // Not awaited: the frontend logs a refusal with all who wait for it, as if they were at fault.
  return queue().finally(() => controls.forEach((control, number) => Object.assign(control, callbacks[number])));
}

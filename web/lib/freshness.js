// @ts-check
// Whether what a view shows was made of what its node has now, and whether another picture has come meanwhile.

import { digest, originOf, originOfAll, originOfPicture } from "./origin.js";
import { readSubjects } from "./payload.js";

/** Origins that are remembered, of results that the frontend may bring back. */
const MOST = 200;

/** @type {Map<string, string>} origin by the digest of a result, as undo and a change of tab bring results back by themselves */
const origins = new Map();

/** What tells a result from others, by what may be read of it. @param {any} output */
function nameOf(output) {
  return digest(
    readSubjects(output).map(({ picture, width, height, box, map, words, marked }) => [
      ...[picture, width, height, box, words.map(({ text }) => text)],
      ...[map, marked].map((bytes) => bytes && [...bytes]),
    ]),
  );
}

export class Freshness {
  /** @param {any} node @param {{ changed: () => void, otherPicture: () => void, recovered: () => void }} owner recovered: what failed has changed */
  constructor(node, owner) {
    this.node = node;
    this.owner = owner;
    /** Origin of what is shown; "" where nothing is, or where nobody knows. */ this.shown = "";
    /** Of the prompt that was queued last. */ this.asked = "";
    /** Of the prompt that is under way. */ this.running = "";
    /** @type {string | null} of the picture, as it was when the graph was last looked at; null where none was connected */ this.picture = null;
    /** Whether the graph is complete: while it is loaded, links come one by one. */ this.settled = false;
    this.stale = false;
    /** Whether the picture that is shown is another than the node's now. */ this.outdated = false;
    /** Whether another picture has come since a result of which nobody knows what it was made of. */ this.lost = false;
    /** @type {string | null} origin of the run that failed last */ this.failedWith = null;
  }

  /** A run failed, or was refused. */
  failed() {
    this.failedWith = originOfAll(this.node);
  }

  /** A prompt is queued. */
  asks() {
    this.asked = originOf(this.node);
  }

  /** A prompt starts. With several in the queue it may be an older one, whose result stays stale until the last one's comes. */
  begins() {
    this.running = this.asked;
  }

  /** @param {any} output of a run that has just ended */
  made(output) {
    const name = nameOf(output);
    origins.delete(name);
    origins.set(name, this.running);
    if (origins.size > MOST) origins.delete([...origins.keys()][0]);
    this.recalled(output);
  }

  /** @param {any} output of an earlier run */
  recalled(output) {
    this.wasMadeOf(origins.get(nameOf(output)) ?? "");
  }

  /** @param {string} origin */
  wasMadeOf(origin) {
    this.shown = origin;
    this.lost = false;
    this.check();
  }

  /** The graph was loaded: its picture is the one that its points belong to. */
  settle() {
    this.settled = true;
    this.picture = originOfPicture(this.node);
    this.check();
  }

  /** Looks at the graph again. */
  check() {
    if (!this.node.graph) return;
    if (this.failedWith !== null && this.failedWith !== originOfAll(this.node)) {
      this.failedWith = null;
      this.owner.recovered();
    }
    const picture = this.settled ? originOfPicture(this.node) : null;
    const other = picture !== null && this.picture !== null && picture !== this.picture;
    this.picture = picture ?? this.picture;
    this.lost ||= other && this.shown === "";
    this.stale = this.lost || (this.shown !== "" && this.shown !== originOf(this.node));
    const [, seen] = this.shown.split("/");
    this.outdated = this.lost || (picture !== null && Boolean(seen) && seen !== picture);
    if (other) this.owner.otherPicture();
    this.owner.changed();
  }
}

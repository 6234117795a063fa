/** Namespaces that lost their last visible entry, and when. A reader that is behind may still hold entries of them. */

import { BoundedMap } from "../../lib/bounded-map.ts";

/** Most names kept. For namespaces that emptied before the oldest of them nothing is known. */
const MAX_NAMES = 4096;

export class EmptiedNamespaces {
  /** In the order in which they emptied. */
  readonly #revisions = new BoundedMap<string, number>(MAX_NAMES, (_namespace, revision) => {
    this.#forgottenRevision = revision;
  });
  #forgottenRevision = 0;

  /** Up to this revision names may be missing. */
  get forgottenRevision(): number {
    return this.#forgottenRevision;
  }

  /** Nothing is known of what emptied up to this revision. */
  startAt(revision: number): void {
    this.#revisions.clear();
    this.#forgottenRevision = revision;
  }

  note(namespace: string, revision: number): void {
    this.#revisions.set(namespace, revision);
  }

  /** The namespaces that emptied after a revision, whether or not they have entries again. */
  since(revision: number): readonly string[] {
    if (this.#revisions.size === 0) return [];
    return [...this.#revisions].filter(([, at]) => at > revision).map(([namespace]) => namespace);
  }
}

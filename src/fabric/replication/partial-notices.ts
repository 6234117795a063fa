/** What one link has told its peer of the origins that are partial here, and what is to be taken back. */
import { isOfOtherCluster } from "../../catalog/replica/origins.ts";
import type { VectorEntry } from "../wire/messages.ts";
import type { PeerProgress } from "./peer-progress.ts";
import type { Replicator } from "./replicator.ts";
import { refOf } from "./version-vector.ts";

export class LackingWords {
  readonly #replicator: Replicator;
  readonly #view: PeerProgress;
  /** Origins that it was told of, and whether as of another cluster than ours. */
  readonly #told = new Map<string, boolean>();

  constructor(replicator: Replicator, view: PeerProgress) {
    this.#replicator = replicator;
    this.#view = view;
  }

  /**
   * Partial origins of which the peer has not heard: who sent what was refused is to know it, and a newcomer that there is more than it
   * gets here. Those that are not partial any more are taken back. Outside the digest, as nothing is known of them.
   */
  take(): readonly VectorEntry[] {
    const { partial, vector, place } = this.#replicator;
    if (partial.size === 0 && this.#told.size === 0) return [];
    const ids = new Set([...partial.origins].map(({ id }) => id));
    const takenBack = [...this.#told.keys()].filter((id) => !ids.has(id));
    for (const id of takenBack) this.#told.delete(id);
    const words: VectorEntry[] = takenBack.map((id) => ({ ...refOf(id), seq: this.#view.find(id)?.said ?? 0, floor: 0 }));
    for (const origin of partial.origins) {
      const { id, nodeId, generation, through } = origin;
      const isOther = isOfOtherCluster(origin, place.clusterId);
      const isFor = vector.mayName(origin, this.#view.peer) || this.#view.isOfPeer(origin);
      if (!isFor || this.#told.get(id) === isOther) continue;
      this.#told.set(id, isOther);
      const word = { nodeId, generation, seq: 0, floor: 0, isLacking: true, lackingThrough: through };
      words.push(isOther ? { ...word, isOfOtherCluster: true } : word);
    }
    return words;
  }

  /** The peer has lost what it was told: it is told all of it again. */
  again(): void {
    for (const { id } of this.#replicator.partial.origins) this.#told.delete(id);
  }
}

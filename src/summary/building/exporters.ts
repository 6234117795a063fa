/** Chooses which member of the cluster makes the summary of a service (docs/design/summaries.md, Building). */
import { fnv64, type Hash64, mixedFraction } from "../../lib/hash64.ts";

/**
 * The members that may export, of which each service has one: the highest score wins (rendezvous hashing, Thaler and Ravishankar 1998). When a member comes or goes,
 * only the services that it wins or won change hands.
 */
export class Exporters {
  readonly #members: readonly (Hash64 & { readonly id: string })[];

  constructor(ids: Iterable<string>) {
    this.#members = [...new Set(ids)].toSorted().map((id) => ({ id, ...fnv64(id) }));
  }

  /** The winner for this text; undefined without members. Cost: one step a member. HOT: once for each change of a service of another exporter. */
  winnerOf(text: string): string | undefined {
    const { high, low } = fnv64(text);
    let best: string | undefined;
    let bestScore = -1;
    for (const member of this.#members) {
      const score = mixedFraction(high ^ member.high, low ^ member.low);
      if (score <= bestScore) continue;
      best = member.id;
      bestScore = score;
    }
    return best;
  }

  /** How many would win the text before this member. */
  rankOf(text: string, id: string): number {
    const { high, low } = fnv64(text);
    const scoreOf = (member: Hash64) => mixedFraction(high ^ member.high, low ^ member.low);
    const own = this.#members.find((member) => member.id === id);
    return own === undefined ? this.#members.length : this.#members.filter((member) => scoreOf(member) > scoreOf(own)).length;
  }

  /** Whether these are the same members. */
  equals(ids: Iterable<string>): boolean {
    const others = [...new Set(ids)].toSorted();
    return others.length === this.#members.length && others.every((id, i) => id === this.#members[i]?.id);
  }
}

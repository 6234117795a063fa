/** Checks what resolvers keep up by themselves: the policy that they judge by, the copy on their disk, and what they compare with their upstreams by digest. */
import type { RestoredCopy } from "../../../src/resolver/disk/restore.ts";
import type { Checks } from "../checks.ts";
import type { World } from "../world.ts";
import type { FoundCopy } from "./resolver-disk.ts";
import type { Known, ResolverProcess } from "./sim-resolver.ts";

/** A comparison is given up after so long, and what differed at its beginning may be right by then. */
const COMPARED_MS = 10_000;

export interface UpkeepParts {
  readonly world: World;
  readonly checks: Checks;
}

export class UpkeepChecks {
  readonly #parts: UpkeepParts;
  /** When each resolver last fetched again for a digest. */
  readonly #repairedMs = new Map<string, number>();
  readonly counts = { repairs: 0, restored: 0, refused: 0 };

  constructor(parts: UpkeepParts) {
    this.#parts = parts;
  }

  /** No resolver judges by a policy that is older than one by which it has judged; also after a restart with a copy that it wrote since then. */
  judges(process: ResolverProcess): void {
    const { number } = process.rooms.policies.policy;
    const { judgedNumber, host } = process;
    this.#parts.checks.holds(number >= judgedNumber, "policy falls", () => `${host.name} judges by policy ${number} after ${judgedNumber}`);
    process.judgedNumber = number;
  }

  /** Nothing is fetched again because of a digest without a difference, which one before it in the chain had until it was mended. */
  repairs({ host, differedMs, rooms }: ResolverProcess): void {
    const { world, checks } = this.#parts;
    this.counts.repairs += 1;
    this.#repairedMs.set(host.name, world.nowMs);
    const mendedMs = rooms.machine.via.slice(1).map((name) => this.#repairedMs.get(name) ?? Number.NEGATIVE_INFINITY);
    const sinceMs = world.nowMs - Math.max(differedMs, ...mendedMs);
    checks.holds(
      sinceMs <= COMPARED_MS,
      "digest",
      () =>
        `${host.name} fetches again for a digest, and ${Number.isFinite(sinceMs) ? `differed last ${sinceMs} ms ago` : "never differed"}`,
    );
  }

  /** A copy that is whole and its own is taken, and no other. */
  restored({ host }: ResolverProcess, { known }: FoundCopy<Known>, restored: RestoredCopy): void {
    this.counts[restored.ok ? "restored" : "refused"] += 1;
    const told = () => `${host.name} begins with a copy that is ${known === undefined ? "of no use" : "good"}: ${JSON.stringify(restored)}`;
    this.#parts.checks.holds(restored.ok === (known !== undefined), "disk", told);
  }

  /** At rest everything is held as the upstream holds it, and came from there. */
  atRest({ host, rooms, isFromDisk, differs }: ResolverProcess): void {
    const { checks } = this.#parts;
    const isFollowing = rooms.machine.following.prefixes.list.length > 0;
    checks.holds(isFromDisk !== true || !isFollowing, "rest", () => `${host.name} has nothing but its copy at rest`);
    checks.holds(rooms.reads.isSettled, "rest", () => `${host.name} does not show everybody what its policy shows at rest`);
    checks.holds(
      !differs || !isFollowing,
      "digest",
      () => `${host.name} holds something else than ${rooms.machine.upstreams.current} at rest`,
    );
  }
}

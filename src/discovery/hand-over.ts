/**
 * Static entries of a node that leaves live on at another node of its cluster (semantics.md, Stop): nobody renews them, so nobody would
 * register them again. The leaver offers its records, another node puts them as its own with the stamp one step on, and the leaver ends
 * its own when it sees those. Whatever is written or taken out elsewhere meanwhile is stamped above both.
 */
import type { Cell } from "../catalog/cell.ts";
import type { Drafter } from "../catalog/codec.ts";
import type { Leases } from "../catalog/leases.ts";
import { isReservedNamespace } from "../catalog/names.ts";
import { BODY, type KeyText } from "../catalog/record.ts";
import type { Replica } from "../catalog/replica.ts";
import { SCOPE } from "../catalog/scope.ts";
import { sameFilter } from "../catalog/traits.ts";
import { endsBeforeHlc } from "../catalog/view.ts";
import { rethrowBroken } from "../lib/errors.ts";
import { MAX_STAMP } from "../lib/hlc.ts";
import type { Time } from "../lib/machine.ts";
import type { Endings } from "./endings.ts";
import type { QuotaGate } from "./quota-gate.ts";

/** A node that may take entries over. */
export interface Taker {
  readonly nodeId: string;
  /** How often it has refused. */
  readonly refusals: number;
}

export interface Offer {
  readonly nodeId: string;
  readonly seqs: readonly number[];
}

export interface HandOverParts {
  readonly replica: Replica;
  readonly leases: Leases;
  readonly drafter: Drafter;
  readonly gate: QuotaGate;
  readonly endings: Endings;
  /** A new static lease of a principal; returns its id. */
  readonly grant: (principal: string, time: Time) => string;
  /** Puts a key under a lease; `isLive`: this node has a live record of it already. */
  readonly attach: (key: KeyText, leaseId: string, isLive: boolean) => void;
}

/** A record that was there when it was looked at: its cell may say something else by now. */
interface Own {
  readonly cell: Cell;
  readonly seq: number;
}

interface Asked {
  readonly cells: readonly Own[];
  readonly refusals: number;
  readonly untilMonoMs: number;
}

type AtNode = ReturnType<Drafter["storedAtNode"]>;

/** Records in one offer. */
const OFFER_COUNT = 1000;
/** What was offered and not seen by then is offered to another. */
const OFFER_MS = 2000;
/** Who refused, or took too long, is left alone for so long. */
const REST_MS = 500;
/** Without anybody to offer to for so long, what is left stays. */
const ALONE_MS = 500;

export class HandOver {
  readonly #parts: HandOverParts;
  /** To be offered; oldest first. */
  #waiting: Own[] = [];
  readonly #asked = new Map<string, Asked>();
  /** Node id to the monotonic ms until which it is left alone. */
  readonly #resting = new Map<string, number>();
  #servedMonoMs = 0;
  /** Records that others have taken over. */
  takenCount = 0;
  /** Static records that nobody else was told of, and that end with this node. */
  localEndedCount = 0;

  constructor(parts: HandOverParts) {
    this.#parts = parts;
  }

  /** Whether an own record does not end with the node: it is handed over. Counts the static ones that nobody else is told of. */
  stays(cell: Cell): boolean {
    if (!this.#isStatic(cell)) return false;
    if (cell.scope === SCOPE.LOCAL) this.localEndedCount += 1;
    return cell.scope !== SCOPE.LOCAL;
  }

  /** Of a client's; the node's own entry ends with it. */
  #isStatic({ key, namespace }: Cell): boolean {
    const { leases } = this.#parts;
    if (isReservedNamespace(namespace)) return false;
    const lease = leases.find(leases.leaseOf(key) ?? "");
    return lease !== undefined && lease.ttlMs === undefined;
  }

  // ---- the node that leaves ----

  /** Own records that are still to be handed over. O(own records). */
  left(): readonly Cell[] {
    const { replica } = this.#parts;
    return replica.self.log
      .list()
      .filter((cell) => cell.body === BODY.ENTRY && replica.own(cell.key) === cell && cell.scope !== SCOPE.LOCAL && this.#isStatic(cell));
  }

  begin(time: Time): void {
    this.#waiting = this.left().map((cell) => ({ cell, seq: cell.seq }));
    this.#servedMonoMs = time.monoMs;
  }

  /** Stages the end of what others have taken, and says what to offer to whom. `isOver`: nothing is left, or nobody to take it. */
  step(takers: readonly Taker[], time: Time): { readonly offers: readonly Offer[]; readonly isOver: boolean } {
    for (const [nodeId, asked] of this.#asked) this.#look(nodeId, asked, takers, time);
    const offers: Offer[] = [];
    for (const { nodeId, refusals } of takers) {
      if (this.#waiting.length === 0) break;
      if (this.#asked.has(nodeId) || (this.#resting.get(nodeId) ?? 0) > time.monoMs) continue;
      const cells = this.#waiting.splice(0, OFFER_COUNT);
      this.#asked.set(nodeId, { cells, refusals, untilMonoMs: time.monoMs + OFFER_MS });
      offers.push({ nodeId, seqs: cells.map(({ seq }) => seq) });
    }
    if (takers.length > 0) this.#servedMonoMs = time.monoMs;
    const isDone = this.#waiting.length === 0 && this.#asked.size === 0;
    return { offers, isOver: isDone || time.monoMs - this.#servedMonoMs >= ALONE_MS };
  }

  #look(nodeId: string, asked: Asked, takers: readonly Taker[], time: Time): void {
    const { replica, endings } = this.#parts;
    const cells = asked.cells.filter(({ cell, seq }) => {
      // It ended meanwhile, as somebody took it out.
      if (cell.body !== BODY.ENTRY || cell.seq !== seq || replica.own(cell.key) !== cell) return false;
      if (!this.#hasSuccessor(cell)) return true;
      endings.handedOver(cell);
      this.takenCount += 1;
      return false;
    });
    const taker = takers.find((each) => each.nodeId === nodeId);
    const isUseless = taker === undefined || taker.refusals > asked.refusals || time.monoMs >= asked.untilMonoMs;
    if (cells.length > 0 && !isUseless) {
      this.#asked.set(nodeId, { ...asked, cells });
      return;
    }
    this.#asked.delete(nodeId);
    if (cells.length === 0) return;
    this.#resting.set(nodeId, time.monoMs + REST_MS);
    this.#waiting.push(...cells);
  }

  /** A node that is there has a live record of the key above ours: taken over, or registered anew. */
  #hasSuccessor(own: Cell): boolean {
    return this.#parts.replica.records(own.key).some((cell) => cell.origin !== own.origin && isEntryAbove(cell, own));
  }

  // ---- the node that takes ----

  /** Puts records that their node offers as own ones; what was written or taken out since is left. Returns how many were put. */
  take({ nodeId, generation }: { readonly nodeId: string; readonly generation: number }, seqs: readonly number[], time: Time): number {
    const origin = this.#parts.replica.origins.get(`${nodeId}/${generation}`);
    const leaseIds = new Map<string, string>();
    let taken = 0;
    for (const seq of seqs) {
      let cell: Cell | undefined;
      origin?.log.forEachSince(seq - 1, (found) => {
        if (found.seq === seq) cell = found;
        return false;
      });
      if (cell === undefined || !this.#mayTake(cell)) continue;
      const moved = this.#asOwn(cell);
      if (moved === undefined) continue;
      const leaseId = leaseIds.get(cell.principal) ?? this.#parts.grant(cell.principal, time);
      leaseIds.set(cell.principal, leaseId);
      this.#put(cell, moved, leaseId);
      taken += 1;
    }
    return taken;
  }

  /** As it is, its times and fields of later versions included; only its node is another. Undefined: too large under this one's name. */
  #asOwn({ at, sizeBytes }: Cell): AtNode | undefined {
    const { replica, drafter } = this.#parts;
    try {
      return drafter.storedAtNode(replica.slab.view(at, sizeBytes), replica.self.nodeId);
    } catch (error) {
      rethrowBroken(error);
      return undefined;
    }
  }

  #put(cell: Cell, { draft, bytes }: AtNode, leaseId: string): void {
    const { replica, gate, attach } = this.#parts;
    const own = replica.own(cell.key);
    const isLive = own !== undefined && own.body === BODY.ENTRY;
    attach(cell.key, leaseId, isLive);
    const { key, namespace, name, kind, scope, health, principal } = cell;
    gate.stage(key, draft);
    const said = { key, namespace, name, kind, scope, health, traits: draft.traits, principal, contentBytes: draft.contentBytes, bytes };
    replica.stagePut({ ...said, hlc: cell.hlc + 1, isFilterChange: !isLive || !sameFilter(own, cell) });
  }

  #mayTake(offered: Cell): boolean {
    const { replica } = this.#parts;
    if (offered.body !== BODY.ENTRY || offered.scope === SCOPE.LOCAL || isReservedNamespace(offered.namespace)) return false;
    // One step on would be no stamp: everybody would refuse it.
    if (offered.hlc >= MAX_STAMP) return false;
    const isLater = (cell: Cell) => isEntryAbove(cell, offered) || endsBeforeHlc(cell) > offered.hlc;
    const own = replica.own(offered.key);
    return !(own !== undefined && isLater(own)) && !replica.records(offered.key).some(isLater);
  }
}

/** Whether a key has an entry above this one that stays: that of a node which is gone may be hidden and forgotten tomorrow. */
function isEntryAbove({ origin, body, hlc }: Cell, than: Cell): boolean {
  return body === BODY.ENTRY && origin.life === "live" && hlc > than.hlc;
}

/**
 * The origins of the summary replica. They are live always, whatever becomes of their nodes. What one says that nobody writes any more is taken over by a
 * node that lives, and the origin is forgotten when nothing of it is needed (docs/design/summaries.md, In a region).
 */

import { BODY, keyParts } from "../../catalog/record/record.ts";
import type { Origin, StoredRecord } from "../../catalog/record/stored-record.ts";
import { startNewGeneration } from "../../catalog/replica/new-generation.ts";
import { ENTRIES } from "../../catalog/replica/touch-sweeps.ts";
import { compareForView } from "../../catalog/replica/view.ts";
import { BoundedMap } from "../../lib/bounded-map.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import { eventOutput, type FabricOutput } from "../io-types.ts";
import { isListed } from "../membership/members.ts";
import type { Replicator } from "../replication/replicator.ts";
import { refOf, shortHash } from "../replication/version-vector.ts";
import type { MemberUpdate } from "../wire/messages.ts";
import type { SourceReceipts } from "./ages.ts";

/** For so long an origin counts as written although a later one of its node is known, or its node is away. */
const EARLIER_MS = 60_000;
const AWAY_MS = 600_000;
/**
 * After that a node that lives takes over what is shown of an earlier origin, and of one that is away as soon as it does not count as written: first one, and
 * while that does not, another one, ever so much later. At most so much in one review.
 */
const TAKE_OVER_MS = 300_000;
const NEXT_MS = 20_000;
const TAKEN_A_REVIEW = 250;
/** After that an origin goes of which nobody is shown anything, although it may hold the newest summary of a key. */
const UNSHOWN_MS = 86_400_000;
/** Origins that nobody writes, kept of one node. Each start leaves one. */
const MAX_EARLIER = 16;
/** All of them are looked at so often. */
const REVIEW_MS = 10_000;
/** Records looked at in one review, and records visited in one tick. */
const LOOKED_A_REVIEW = 10_000;
const SWEPT_A_TICK = 250;
/** This node takes a later generation at most so often. */
const RENEW_MS = 60_000;
/** Forgotten origins that are taken again when their node is back. */
const MAX_AWAY = 1000;

/** An origin that nobody writes. */
interface Row {
  readonly isEarlier: boolean;
  sinceMonoMs: number;
  /** A record for which it was kept when it was last looked at: most looks are at this one. */
  kept: StoredRecord | undefined;
  /** Records are looked at from there on. */
  after: number;
  /** Up to there its records are taken over, or need not be. */
  takenOver: number;
  /** They are looked at from the first one again then: what need not be taken over may be in the way of what is said later. */
  againMonoMs: number;
  isToGo: boolean;
}

interface Members {
  find(nodeId: string): Pick<MemberUpdate, "status" | "clusterId"> | undefined;
  listed(): readonly Pick<MemberUpdate, "nodeId" | "clusterId">[];
}

export class SummaryOrigins {
  readonly #replication: Replicator;
  readonly #members: Members;
  readonly #sources: Pick<SourceReceipts, "isOver" | "isTakenBack">;
  readonly #rows = new Map<Origin, Row>();
  /** Ids of forgotten origins whose node may come back as such. */
  readonly #away = new BoundedMap<string, true>(MAX_AWAY);
  #dueMonoMs = 0;
  #renewMonoMs = Number.NEGATIVE_INFINITY;
  /** Whether there is more to be taken over. */
  #isMore = false;
  /** Whether there are rows to go. */
  #isGoing = false;

  constructor(replication: Replicator, members: Members, sources: Pick<SourceReceipts, "isOver" | "isTakenBack">) {
    this.#replication = replication;
    this.#members = members;
    this.#sources = sources;
  }

  /** Records of an origin came, maybe its first. HOT. */
  heard(id: string): void {
    if (!this.#replication.replica.origins.has(id)) this.#dueMonoMs = 0;
  }

  memberChanged({ nodeId, status }: MemberUpdate): void {
    this.#dueMonoMs = 0;
    if (!isListed(status)) return;
    for (const id of this.#away.keys()) {
      const ref = refOf(id);
      if (ref.nodeId !== nodeId) continue;
      this.#away.delete(id);
      this.#replication.readmit(ref.nodeId, ref.generation);
    }
  }

  postpone(byMs: number): void {
    for (const row of this.#rows.values()) row.sinceMonoMs += byMs;
  }

  nextDeadlineMs(): number {
    const { sweeps, isForgetting } = this.#replication.replica;
    return sweeps.isOwed || isForgetting || this.#isGoing ? 0 : this.#dueMonoMs;
  }

  tick(time: Time, out: FabricOutput[]): void {
    const { replica, disproved } = this.#replication;
    if (time.monoMs >= this.#dueMonoMs) this.#review(time);
    if (this.#isGoing) this.#forgetSome(time, out);
    replica.sweep(SWEPT_A_TICK, time);
    for (const origin of replica.sweeps.takeClosed()) this.#replication.closed(origin, time, out);
    disproved.step(time);
  }

  #review(time: Time): void {
    const { replica } = this.#replication;
    this.#renew(time);
    this.#isMore = false;
    const newest = new Map<string, number>();
    for (const origin of replica.origins.values())
      newest.set(writerOf(origin), Math.max(origin.generation, newest.get(writerOf(origin)) ?? 0));
    for (const origin of this.#rows.keys()) if (replica.origins.get(origin.id) !== origin) this.#rows.delete(origin);
    const earlier = new Map<string, Origin[]>();
    for (const origin of replica.origins.values()) {
      if (origin === replica.self) continue;
      const writer = writerOf(origin);
      const isEarlier = origin.generation < (newest.get(writer) ?? 0);
      if (isEarlier) earlier.set(writer, [...(earlier.get(writer) ?? []), origin]);
      this.#note(origin, isEarlier, time);
    }
    for (const origins of earlier.values()) {
      const tooMany = origins.toSorted((a, b) => b.generation - a.generation).slice(MAX_EARLIER);
      for (const origin of tooMany) this.#letGo(this.#rows.get(origin));
    }
    let left = LOOKED_A_REVIEW;
    for (const [origin, row] of this.#rows) {
      if (left <= 0) break;
      left -= this.#look(origin, row, left, time);
    }
    const waitMs = left <= 0 || this.#isMore ? REVIEW_MS / 10 : REVIEW_MS;
    this.#dueMonoMs = this.#rows.size === 0 ? NEVER : time.monoMs + waitMs;
  }

  /** Another start of this node may have had a clock that was ahead: others would take this one for the earlier. */
  #renew(time: Time): void {
    const { replica } = this.#replication;
    const { self } = replica;
    let above = self.generation;
    for (const { nodeId, clusterId, generation } of replica.origins.values())
      if (nodeId === self.nodeId && clusterId === self.clusterId) above = Math.max(above, generation);
    if (above === self.generation || time.monoMs < this.#renewMonoMs) return;
    this.#renewMonoMs = time.monoMs + RENEW_MS;
    startNewGeneration(replica, above + 1);
    this.#replication.changed(time);
  }

  #note(origin: Origin, isEarlier: boolean, time: Time): void {
    const member = this.#members.find(origin.nodeId);
    const isWritten = !isEarlier && member !== undefined && isListed(member.status) && isOf(origin, member.clusterId);
    const row = this.#rows.get(origin);
    if (isWritten) {
      this.#rows.delete(origin);
      origin.isTakenOver = false;
      if (row?.isToGo === true) this.#show(origin);
    } else if (row?.isEarlier !== isEarlier)
      this.#rows.set(origin, {
        isEarlier,
        sinceMonoMs: time.monoMs,
        kept: undefined,
        after: 0,
        takenOver: 0,
        againMonoMs: 0,
        isToGo: false,
      });
  }

  /** Its node is back before it was forgotten. */
  #show(origin: Origin): void {
    origin.life = "live";
    this.#replication.replica.sweeps.scheduleTouch(origin, ENTRIES);
  }

  /** Decides whether an origin goes. Returns the number of records looked at. */
  #look(origin: Origin, row: Row, maxCount: number, time: Time): number {
    const awayMs = time.monoMs - row.sinceMonoMs;
    if (row.isToGo || awayMs < (row.isEarlier ? EARLIER_MS : AWAY_MS)) return 0;
    const takeOverMs = row.isEarlier ? TAKE_OVER_MS : AWAY_MS;
    if (awayMs >= takeOverMs && awayMs >= takeOverMs + NEXT_MS * this.#rank(origin)) this.#takeOver(origin, row, time);
    const isKept = (stored: StoredRecord) => (awayMs < UNSHOWN_MS ? this.#isNeeded(stored) : this.#isShown(stored));
    if (row.kept !== undefined && isKept(row.kept)) return 1;
    row.kept = undefined;
    let looked = 0;
    origin.log.forEachSince(row.after, (stored, seq) => {
      if (looked === maxCount) return false;
      looked += 1;
      row.after = seq;
      if (isKept(stored)) row.kept = stored;
      return row.kept === undefined;
    });
    if (row.kept !== undefined) row.after = 0;
    else if (looked < maxCount) this.#letGo(row);
    return looked + 1;
  }

  /** How many members come before this node in taking over an origin. Nodes of its cluster are first, because others may not hold all of it. */
  #rank({ id, clusterId: home }: Origin): number {
    const { nodeId: here, clusterId } = this.#replication.replica.self;
    const orderOf = (nodeId: string, isAbroad: boolean) => shortHash(`${nodeId} ${id}`) + (isAbroad ? 2 ** 32 : 0);
    const own = orderOf(here, clusterId !== home);
    return this.#members.listed().filter((each) => each.nodeId !== here && orderOf(each.nodeId, each.clusterId !== home) < own).length;
  }

  /** Says under this node's own origin what no origin that is written says. The bytes are as they were made. */
  #takeOver(origin: Origin, row: Row, time: Time): void {
    const { replica } = this.#replication;
    origin.isTakenOver = true;
    if (time.monoMs >= row.againMonoMs) {
      row.takenOver = 0;
      row.againMonoMs = time.monoMs + TAKE_OVER_MS;
    }
    const taken: StoredRecord[] = [];
    let looked = 0;
    origin.log.forEachSince(row.takenOver, (stored, seq) => {
      row.takenOver = seq;
      const own = replica.own(stored.key);
      // What this node has ended in that version, it does not say again.
      const isEnded = own !== undefined && own.hlc >= stored.hlc;
      if (!isEnded && (this.#isShown(stored) || this.#isInTheWay(stored)) && this.#isNeeded(stored)) taken.push(stored);
      looked += 1;
      return taken.length < TAKEN_A_REVIEW && looked < LOOKED_A_REVIEW;
    });
    for (const { key, namespace, name, kind, scope, health, traits, principal, hlc, at, sizeBytes, contentBytes } of taken) {
      const facts = {
        key,
        namespace,
        name,
        kind,
        scope,
        health,
        traits,
        principal,
        hlc,
        contentBytes,
        hasAliases: false,
        hasChecks: false,
      };
      replica.stagePut({ ...facts, bytes: Uint8Array.from(replica.slab.view(at, sizeBytes)), isFilterChange: true });
    }
    this.#isMore ||= taken.length === TAKEN_A_REVIEW || looked === LOOKED_A_REVIEW;
    if (taken.length > 0) replica.commit(replica.lastSeq, time);
  }

  /**
   * Whether no other origin has the same summary or a newer one, hidden or not. Of two origins that nobody writes one is enough. What its source took back is
   * not needed, nor what is of a source that is lost: nobody would end it, so it would be there still when the withdrawal is forgotten.
   */
  #isNeeded(stored: StoredRecord): boolean {
    if (stored.revision < 0 || stored.body !== BODY.ENTRY || this.#sources.isOver(stored)) return false;
    const isInPlace = (other: StoredRecord) =>
      other.hlc > stored.hlc || (other.hlc === stored.hlc && (!this.#rows.has(other.origin) || compareForView(other, stored) < 0));
    return !(stored.peers ?? []).some((other) => other !== stored && other.body === BODY.ENTRY && isInPlace(other));
  }

  /**
   * Whether its source took it back, has forgotten that, and says it again in a lower version, which therefore nobody is shown. No record comes under an origin
   * of its own cluster by way of another one, so it is told under that of this node.
   */
  #isInTheWay(stored: StoredRecord): boolean {
    if (!this.#sources.isTakenBack(stored)) return false;
    const { clusterId } = keyParts(stored.key);
    const isSaidBelow = ({ body, hlc, origin }: StoredRecord) =>
      body === BODY.ENTRY && hlc < stored.hlc && origin.clusterId === clusterId && !this.#rows.has(origin);
    return (stored.peers ?? []).some(isSaidBelow);
  }

  #isShown({ revision, key, origin }: StoredRecord): boolean {
    const shown = revision < 0 ? undefined : this.#replication.replica.lookup.find(key);
    return shown?.origin === origin;
  }

  #letGo(row: Row | undefined): void {
    if (row === undefined) return;
    row.isToGo = true;
    this.#isGoing = true;
  }

  /** All records of an origin are hidden first, and origins are forgotten one after the other. */
  #forgetSome(time: Time, out: FabricOutput[]): void {
    const { replica } = this.#replication;
    this.#isGoing = false;
    for (const [origin, row] of this.#rows) {
      if (!row.isToGo) continue;
      if (origin.life !== "hidden") {
        origin.life = "hidden";
        replica.sweeps.scheduleTouch(origin, ENTRIES);
      }
      if (replica.isForgetting || replica.sweeps.isOwedTo(origin)) {
        this.#isGoing = true;
        continue;
      }
      this.#rows.delete(origin);
      if (!row.isEarlier) this.#away.set(origin.id, true);
      const { nodeId, generation, clusterId } = origin;
      out.push(
        eventOutput("origin_forgotten", "info", {
          nodeId,
          generation,
          clusterId,
          why: row.isEarlier ? "replaced" : "away",
          of: "summaries",
        }),
      );
      this.#replication.forgetOrigin(origin, time, true, 0);
    }
  }
}

/** Another cluster may have a node of that name, or say so: no word of it makes this one's origin an earlier one. */
function writerOf({ nodeId, clusterId }: Origin): string {
  return `${clusterId} ${nodeId}`;
}

/** Whether an origin is of that cluster; of some it is not known yet. */
function isOf(origin: Origin, clusterId: string): boolean {
  return origin.clusterId === "" || origin.clusterId === clusterId;
}

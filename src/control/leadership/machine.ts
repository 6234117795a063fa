/**
 * Elects leaders through the control store. The design is client-go's `leaderelection` with Consul's sessions (one record for each process, however
 * many scopes it holds) and the sequencers of Chubby (Burrows, OSDI 2006, section 2.4), which are called fences here.
 *
 * A holder acts only while its session is valid by its own clock. A candidate deletes a session that it saw unchanged for a whole lease, on the version
 * that it saw, so that a renewal on its way fails. A scope whose session does not exist is free.
 */
import { LEASE_BOUNDS } from "../../lib/bounds.ts";
import { type Machine, NEVER, type Time } from "../../lib/machine.ts";
import type { StoreChanges, StoreCondition, TransactResult } from "../../store/control/store.ts";
import { type CopiedItem, StoreCopy } from "./copy.ts";
import { LeaderEvents } from "./events.ts";
import type { LeadershipInput, LeadershipOutput, OrderId, OrderRefusal, RequestId } from "./io-types.ts";
import {
  decodeLeader,
  decodeSession,
  decodeStore,
  encodeRecord,
  LEADERS,
  type LeaderRecord,
  SESSIONS,
  type SessionRecord,
  STORE_KEY,
  type StoreRecord,
} from "./records.ts";
import { type Answered, StoreRequests } from "./requests.ts";
import { GLOBAL_SCOPE } from "./scope.ts";
import { RETRY_MS, Session, type SessionOptions } from "./session.ts";

export interface LeadershipOptions extends SessionOptions {
  readonly clusterId: string;
  /** Time between two compactions of the store. 0: none. */
  readonly compactMs: number;
  /** Returns a random id. */
  readonly newId: () => string;
}

/** A scope for which this node is a candidate. */
interface Stand {
  readonly scope: string;
  /** The key of the record. It is made once, because each look at many scopes reads all records. */
  readonly key: string;
  holderId: string;
  /**
   * Monotonic time (ms) before which no request is sent. `NEVER` while a request is pending. A change of the record ends the wait, because by
   * then the request has had its effect, or will fail.
   */
  retryMs: number;
  /** Monotonic time (ms) before which this node does not take the scope, because it has just given it up. */
  notBeforeMs: number;
  /** Monotonic time (ms) at which this node last saw the earlier leader change its session or the record. */
  lastSignMs: number;
  /** The number of the fence of the holder, and the monotonic time (ms) until which it acts. This node neither releases nor claims the scope earlier. */
  granted: { readonly number: number; readonly untilMs: number };
  /** This node never acts again under fences up to this number. */
  releasedNumber: number;
  /** The record under which this node held the scope at the last look. */
  held: LeaderRecord | undefined;
  /** Why the holder gives up the scope. Undefined if it does not. */
  withdrawal: string | undefined;
}

export interface LeaseHolder {
  readonly leader: LeaderRecord;
  /** `NEVER` if the store belongs to this process alone. */
  readonly untilMs: number;
}

export interface OwnSession {
  readonly name: string;
  /** Monotonic time (ms). `NEVER` if the store belongs to this process alone. */
  readonly untilMs: number;
  readonly condition: StoreCondition | undefined;
}

/**
 * When the store is back after an outage, holders have this time and a third of a lease to renew their sessions: a renewal that was sent just before
 * may still wait for its timeout, which is at most a third of a lease, and then for its retry.
 */
const RETURN_MS = 2 * RETRY_MS;
/** Maximum number of pending requests when a request for a scope is sent, so that many scopes do not delay the renewal of the session. */
const MAX_PENDING = 32;

export class Leadership implements Machine<LeadershipInput, LeadershipOutput> {
  readonly #options: LeadershipOptions;
  readonly requests = new StoreRequests();
  readonly #session: Session;
  readonly #store = new StoreCopy<StoreRecord>(decodeStore);
  readonly #leaders = new StoreCopy<LeaderRecord>(decodeLeader);
  readonly events = new LeaderEvents(this.#leaders.items);
  /** Copies of sessions by the prefix that their watch has. */
  readonly #sessions = new Map<string, StoreCopy<SessionRecord>>();
  readonly #stands = new Map<string, Stand>();
  /** The highest revision of the store that this node has seen. */
  #revision = 0;
  /** Whether the last sign of the store was a failure, or there was none yet. */
  #isAway = true;
  /** Monotonic time (ms) of the last answer, and of the first answer after the last outage. */
  #answeredMs = Number.NEGATIVE_INFINITY;
  #backMs = Number.NEGATIVE_INFINITY;
  #isFollowed = false;
  /** Whether the session is needed even if this node is no candidate. */
  #isSessionUsed = false;
  #isCordoned = false;
  #ineligible = "not ready";
  /** Monotonic time (ms) at which this node creates a missing store record. `NEVER` while a request is pending. */
  #creationMs = Number.NEGATIVE_INFINITY;
  /** The highest epoch of a store that was replaced. */
  #earlierEpoch = 0;
  /** Monotonic time (ms) before which this node claims no scope. */
  #claimMs = Number.NEGATIVE_INFINITY;
  /** Monotonic time (ms) before which no session is deleted. `NEVER` while a deletion is pending. A reported end of a session ends the wait. */
  #deletionMs = Number.NEGATIVE_INFINITY;
  #compaction: { readonly revision: number; readonly dueMs: number } | undefined;
  #stop: "no" | "begun" | "over" = "no";
  /** Monotonic time (ms) of the last look. */
  #lookedMs = Number.NEGATIVE_INFINITY;

  constructor(options: LeadershipOptions) {
    this.#options = options;
    this.#session = new Session(options);
  }

  handle(input: LeadershipInput, time: Time, out: LeadershipOutput[]): void {
    if (this.#lookedMs === Number.NEGATIVE_INFINITY) for (const prefix of [STORE_KEY, LEADERS]) out.push({ kind: "watch", prefix });
    this.#take(input, time, out);
    // A grant only postpones changes, and programs extend their grants often.
    if (input.kind !== "granted" || input.untilMs <= time.monoMs) this.#look(time, out);
  }

  nextDeadlineMs(): number {
    let next = NEVER;
    // All that was due at the last look has been done, or waits for something else.
    const at = (dueMs: number) => {
      if (dueMs > this.#lookedMs && dueMs < next) next = dueMs;
    };
    at(this.#compaction?.dueMs ?? NEVER);
    at(this.#claimMs);
    if (this.#needsSession) at(this.#session.dueMs);
    if (this.#isMissingStore) at(this.#creationMs);
    for (const stand of this.#stands.values()) {
      at(Math.max(stand.retryMs, stand.notBeforeMs));
      at(stand.granted.untilMs);
    }
    for (const { dueMs } of this.#watchedSessions()) at(Math.max(dueMs, this.#deletionMs));
    return next;
  }

  /**
   * The record of a scope that this node holds, and the monotonic time (ms) until which it may act: a caller that has checked the time may act until its
   * next `await`. Undefined if this node does not hold the scope.
   */
  held(scope: string, { monoMs }: Time): LeaseHolder | undefined {
    const leader = this.#heldRecord(this.#stands.get(scope));
    const untilMs = this.#session.validUntilMs;
    return leader === undefined || monoMs >= untilMs ? undefined : { leader, untilMs };
  }

  /** Monotonic time (ms) of the last sign of life of the leader before this node. Undefined if this node is no candidate. */
  lastSignMs(scope: string): number | undefined {
    return this.#stands.get(scope)?.lastSignMs;
  }

  /** The scopes that `held` returns. */
  heldScopes(time: Time): readonly string[] {
    if (time.monoMs >= this.#session.validUntilMs) return [];
    return [...this.#stands.values()].filter((stand) => this.#heldRecord(stand) !== undefined).map(({ scope }) => scope);
  }

  /** Why this node is no candidate for any scope. Empty if it is one. */
  get fault(): string {
    return this.#ineligible || this.storeFault;
  }

  /** Why this node cannot use the store for leadership. Empty if it can. */
  get storeFault(): string {
    const item = this.#store.items.get(STORE_KEY);
    if (this.#store.revision === undefined || this.#leaders.revision === undefined) return "the control store has not answered yet";
    if (item === undefined) return "the control store is new";
    if (item.value === undefined) return `the record ${STORE_KEY} in the control store cannot be read`;
    const { clusterId } = item.value;
    return clusterId === this.#options.clusterId ? "" : `the control store belongs to the cluster ${clusterId}`;
  }

  /**
   * Monotonic time (ms) at which a leader can lose its scope if it does not renew its session. Undefined if it has no such time, or if this node does
   * not know it.
   */
  expiryMs({ session }: LeaderRecord): number | undefined {
    if (this.#options.isOwnStore) return undefined;
    if (session === this.#session.name) return this.#session.validUntilMs;
    const found = this.#sessionOf(session, NEVER);
    return typeof found === "string" ? undefined : found.sinceMs + leaseOf(found);
  }

  /**
   * The session of this node while it is valid. A change that names the session has its condition, which is undefined while a renewal is pending.
   * Undefined if there is no valid session.
   */
  ownSession({ monoMs }: Time): OwnSession | undefined {
    const { name, version, validUntilMs: untilMs, dueMs } = this.#session;
    if (this.fault !== "" || monoMs >= untilMs) return undefined;
    const isRenewed = this.#options.isOwnStore || dueMs !== NEVER;
    return { name, untilMs, condition: isRenewed ? { key: SESSIONS + name, version } : undefined };
  }

  /** Whether a session has ended that a record of this version names. False if this node does not know it. */
  hasEnded(session: string, version: number): boolean {
    return session !== this.#session.name && this.#isFree(session, version);
  }

  /** The records of leaders, by key, with the versions that changes of them name. */
  get leaderItems(): ReadonlyMap<string, CopiedItem<LeaderRecord>> {
    return this.#leaders.items;
  }

  /** The identity of the store. Undefined until this node has read it. */
  get store(): StoreRecord | undefined {
    return this.#store.items.get(STORE_KEY)?.value;
  }

  get revision(): number {
    return this.#revision;
  }

  /** The leaders, as this node knows them: scope to record. An unreadable record is undefined. */
  get leaders(): ReadonlyMap<string, LeaderRecord | undefined> {
    return new Map([...this.#leaders.items].map(([key, { value }]) => [key.slice(LEADERS.length), value]));
  }

  /** Whether the last sign of the store was an answer, and when the last answer came (monotonic ms). */
  get availability(): { readonly isAvailable: boolean; readonly answeredMs: number } {
    return { isAvailable: !this.#isAway, answeredMs: this.#answeredMs };
  }

  #take(input: LeadershipInput, time: Time, out: LeadershipOutput[]): void {
    switch (input.kind) {
      case "tick":
        return;
      case "transacted":
        return this.#transacted(input.request, input.result, time, out);
      case "changed":
        return this.#changed(input.prefix, input.changes, time, out);
      case "eligible":
        this.#ineligible = input.fault;
        return;
      case "cordoned":
        this.#isCordoned = input.isCordoned;
        return;
      case "useSession":
        this.#isSessionUsed = input.isUsed;
        return;
      case "follow":
        this.#isFollowed = input.isFollowed;
        return;
      case "stand":
        return this.#stand(input.scope, input.holderId);
      case "withdraw":
        return this.#withdraw(input.scope, input.reason);
      case "granted": {
        const { scope, number, untilMs } = input;
        const stand = this.#stands.get(scope);
        if (stand !== undefined && number >= stand.granted.number) stand.granted = { number, untilMs };
        return;
      }
      case "resign":
        return this.#askToResign(input, out);
      case "raiseEpoch":
        return this.#raiseEpoch(input.order, time, out);
      case "stop":
        if (this.#stop === "no") this.#stop = "begun";
        for (const scope of this.#stands.keys()) this.#withdraw(scope, "the node stopped");
    }
  }

  #transacted(request: RequestId, result: TransactResult | undefined, time: Time, out: LeadershipOutput[]): void {
    this.#observe(result?.revision, time.monoMs);
    this.requests.answered(request, result, time, out);
  }

  /** Applies a sign of the store: its revision, or undefined for a failure. */
  #observe(revision: number | undefined, monoMs: number): void {
    if (revision === undefined) {
      this.#isAway = true;
      return;
    }
    if (this.#isAway || this.#isLate(monoMs)) this.#backMs = monoMs;
    this.#isAway = false;
    this.#answeredMs = monoMs;
    this.#revision = Math.max(this.#revision, revision);
  }

  /** Whether the last answer is longer ago than the answers to renewals are, unless the store delays them. */
  #isLate(monoMs: number): boolean {
    return monoMs - this.#answeredMs > this.#options.leaseMs / 3 + RETRY_MS;
  }

  #changed(prefix: string, changes: StoreChanges | undefined, time: Time, out: LeadershipOutput[]): void {
    const { monoMs } = time;
    this.#observe(changes?.revision, monoMs);
    if (changes === undefined) return;
    if (prefix === STORE_KEY) {
      // Other programs can have keys that begin with this one.
      const replaced = this.#store.take(changes, monoMs)?.changes.find(({ key }) => key === STORE_KEY);
      if (replaced?.before?.value?.id !== undefined && replaced.before.value.id !== replaced.after?.value?.id) {
        this.#earlierEpoch = Math.max(this.#earlierEpoch, replaced.before.value.epoch);
        this.#wait(time);
      }
    } else if (prefix === LEADERS) {
      const step = this.#leaders.take(changes, monoMs);
      if (step === undefined) return;
      for (const { key, after } of step.changes) {
        const stand = this.#stands.get(key.slice(LEADERS.length));
        if (stand !== undefined) stand.retryMs = Number.NEGATIVE_INFINITY;
        else if (after?.value?.session === this.#session.name && after.value.shard === undefined) this.#disown(key.slice(LEADERS.length));
      }
      for (const event of this.events.take(step, changes.revision)) out.push({ kind: "event", event });
    } else
      for (const { key, before, after } of this.#sessions.get(prefix)?.take(changes, monoMs)?.changes ?? []) {
        const name = key.slice(SESSIONS.length);
        if (after === undefined) {
          this.#deletionMs = Number.NEGATIVE_INFINITY;
          this.#report("expired", name, out);
        } else if (this.#isFollowed && before !== undefined) this.#report("renewed", name, out);
      }
  }

  /**
   * Reports an event for each scope whose leader has this session. The events are not kept: other nodes do not know them, and the watches of leaders
   * and sessions are not in order, so that a reader that has seen a later leader would never receive them.
   */
  #report(kind: "expired" | "renewed", session: string, out: LeadershipOutput[]): void {
    for (const [scope, leader] of this.events.current())
      if (leader?.session === session) out.push({ kind: "event", event: { kind, scope, leader, revision: 0 } });
  }

  #stand(scope: string, holderId: string): void {
    if (this.#stop !== "no") return;
    const known = this.#stands.get(scope);
    if (known === undefined) {
      const [far, none] = [Number.NEGATIVE_INFINITY, undefined];
      const times = { retryMs: far, notBeforeMs: far, lastSignMs: far, granted: { number: 0, untilMs: far } };
      this.#stands.set(scope, { scope, key: LEADERS + scope, holderId, ...times, releasedNumber: 0, held: none, withdrawal: none });
    } else if (known.withdrawal !== undefined) {
      known.holderId = holderId;
      known.withdrawal = undefined;
    }
  }

  #withdraw(scope: string, reason: string): void {
    const stand = this.#stands.get(scope);
    if (stand === undefined) return;
    stand.withdrawal ??= reason;
    // The next holder must not act under the fence of this one, even if the record is not empty yet.
    stand.releasedNumber = Math.max(stand.releasedNumber, this.#leaders.items.get(stand.key)?.value?.fence.number ?? 0);
  }

  /** Empties a record whose holder withdrew before it was written. */
  #disown(scope: string): void {
    this.#stand(scope, "");
    this.#withdraw(scope, "the holder withdrew");
  }

  #look(time: Time, out: LeadershipOutput[]): void {
    this.#lookedMs = time.monoMs;
    if (this.#stop === "over") return;
    this.#createStore(time, out);
    if (this.#needsSession && time.monoMs >= this.#session.dueMs) this.#renew(time, out);
    for (const stand of this.#stands.values()) {
      this.#reportLoss(stand, out);
      this.#decide(stand, time, out);
    }
    if (this.fault === "" && !this.#isLate(time.monoMs) && time.monoMs >= this.#deletionMs)
      for (const { key, version, dueMs } of this.#watchedSessions())
        if (time.monoMs >= dueMs && this.requests.size < MAX_PENDING) this.#deleteSession({ key, version }, out);
    this.#compact(time, out);
    this.#watch(out);
    this.#endSession(time, out);
  }

  /** Writes the identity of a store that has not been used before. */
  #createStore({ monoMs, wallMs }: Time, out: LeadershipOutput[]): void {
    if (!this.#isMissingStore || monoMs < this.#creationMs) return;
    const { clusterId, newId } = this.#options;
    const record = { clusterId, id: newId(), epoch: Math.max(Math.floor(wallMs / 1000), this.#earlierEpoch + 1) };
    this.#creationMs = NEVER;
    this.requests.transact([{ key: STORE_KEY, version: 0 }], [{ key: STORE_KEY, value: encodeRecord(record) }], out, (_result, later) => {
      this.#creationMs = later.monoMs + RETRY_MS;
    });
  }

  get #isMissingStore(): boolean {
    return this.#ineligible === "" && this.#store.revision !== undefined && !this.#store.items.has(STORE_KEY);
  }

  /** A node without scopes needs no session. */
  get #needsSession(): boolean {
    return this.fault === "" && this.#stop !== "over" && (this.#isSessionUsed || (this.#stop === "no" && this.#stands.size > 0));
  }

  #renew(time: Time, out: LeadershipOutput[]): void {
    const renewal = this.#session.renewal(time.wallMs);
    const known = this.#revision;
    this.requests.transact([{ key: renewal.key, version: this.#session.version }], [renewal], out, (result, later) => {
      this.#checkSession(later, () => this.#session.answered(result, time.monoMs, later));
      if (result === undefined || result.revision >= known) return;
      // The store was restored from a backup, and this node may hold less in it than it knows.
      this.#revision = result.revision;
      this.#checkSession(later, () => this.#session.startOver(later.monoMs));
    });
  }

  /** Applies an answer to the session, and waits if it shows that the session has ended. */
  #checkSession(time: Time, apply: () => void): void {
    const { name, version } = this.#session;
    apply();
    if (version > 0 && name !== this.#session.name) this.#wait(time);
  }

  /** Claims no scope for a lease. If the store was replaced, its earlier leaders can act for that time, and the watches start over. */
  #wait({ monoMs }: Time): void {
    this.#claimMs = monoMs + this.#options.leaseMs;
  }

  /** The record of a scope if this node holds it. Whether this node may act also depends on the time. */
  #heldRecord(stand: Stand | undefined): LeaderRecord | undefined {
    if (stand === undefined) return undefined;
    const record = this.#leaders.items.get(stand.key)?.value;
    const isHeld =
      record?.session === this.#session.name &&
      record.holderId === stand.holderId &&
      record.fence.number > stand.releasedNumber &&
      record.fence.storeEpoch === this.store?.epoch &&
      record.resign === undefined &&
      stand.withdrawal === undefined &&
      this.fault === "";
    return isHeld ? record : undefined;
  }

  /** Reports the loss of a scope that this node did not give up. */
  #reportLoss(stand: Stand, out: LeadershipOutput[]): void {
    const { held, scope, key } = stand;
    stand.held = this.#heldRecord(stand);
    if (held === undefined || stand.held !== undefined) return;
    const record = this.#leaders.items.get(key)?.value;
    const isGivenUp = record?.session === this.#session.name || held.fence.number <= stand.releasedNumber;
    if (!isGivenUp) out.push({ kind: "event", event: { kind: "lost", scope, leader: held, revision: 0 } });
  }

  #decide(stand: Stand, time: Time, out: LeadershipOutput[]): void {
    const item = this.#leaders.items.get(stand.key);
    const record = item?.value;
    if (this.requests.size >= MAX_PENDING || time.monoMs < Math.max(stand.retryMs, stand.granted.untilMs)) return;
    // Each change names the version of the session, which a pending renewal changes.
    if (!this.#options.isOwnStore && this.#session.dueMs === NEVER) return;
    if (item !== undefined && record?.session === this.#session.name) {
      if (this.#heldRecord(stand) === undefined) this.#release(stand, { ...item, value: record }, time, out);
      return;
    }
    if (stand.withdrawal !== undefined) {
      this.#stands.delete(stand.scope);
      return;
    }
    // An unreadable record counts as held.
    if (item !== undefined && record === undefined) return;
    const session = record && this.#sessionOf(record.session, NEVER);
    const recordMs = item?.sinceMs ?? time.monoMs;
    stand.lastSignMs = Math.max(stand.lastSignMs, typeof session === "object" ? session.sinceMs : recordMs);
    // An earlier process of this node has ended, but a program that campaigned through it can act until its last grant is over.
    const isOfProgram = record !== undefined && record.session !== "" && record.holderId !== record.nodeId;
    if (this.#options.isOwnStore && isOfProgram) stand.notBeforeMs = Math.max(stand.notBeforeMs, recordMs + this.#options.leaseMs);
    const isDue = time.monoMs >= Math.max(stand.notBeforeMs, this.#claimMs) && time.monoMs < this.#session.validUntilMs;
    const mayTake = this.fault === "" && isDue && !(this.#isCordoned && stand.holderId === this.#options.nodeId);
    if (mayTake && this.#isFree(record?.session ?? "", item?.version ?? 0)) this.#elect(stand, item, time, out);
  }

  #isFree(session: string, version: number): boolean {
    return session === "" || this.#options.isOwnStore || this.#sessionOf(session, version) === "absent";
  }

  /**
   * The session of this name, which a record of this version names: `absent` if it has ended, `unknown` if no watch has reported about it since the
   * record was written. A watch on one session begins after its record was read.
   */
  #sessionOf(name: string, version: number): CopiedItem<SessionRecord> | "absent" | "unknown" {
    const key = SESSIONS + name;
    for (const [prefix, copy] of this.#sessions) {
      if (!key.startsWith(prefix) || copy.revision === undefined) continue;
      const found = copy.items.get(key);
      if (found !== undefined) return found;
      if (prefix === key || copy.revision >= version) return "absent";
    }
    return "unknown";
  }

  /** Claims a free scope. */
  #elect(stand: Stand, item: CopiedItem<LeaderRecord> | undefined, { wallMs }: Time, out: LeadershipOutput[]): void {
    const before = item?.value;
    const { nodeId, newId } = this.#options;
    const record: LeaderRecord = {
      holderId: stand.holderId,
      nodeId,
      session: this.#session.name,
      term: (before?.term ?? 0) + 1,
      fence: { failoverVersion: 0, storeEpoch: this.store?.epoch ?? 0, number: 1 + Math.max(this.#revision, before?.fence.number ?? 0) },
      issuedWallMs: wallMs,
      reason: electionReason(before),
      correlationId: newId(),
      resign: undefined,
      shard: undefined,
    };
    // A raised epoch that this node has not read yet must not be followed by a fence of the earlier epoch.
    const epoch = { key: STORE_KEY, version: this.#store.items.get(STORE_KEY)?.version ?? 0 };
    this.#write(stand, record, [{ key: stand.key, version: item?.version ?? 0 }, epoch], out);
  }

  /** Empties the record of a scope. This node never acts again under its fence, even if the answer is lost. */
  #release(stand: Stand, item: CopiedItem<LeaderRecord> & { readonly value: LeaderRecord }, time: Time, out: LeadershipOutput[]): void {
    const { value, version } = item;
    const isOfEarlierEpoch = value.fence.storeEpoch !== this.store?.epoch;
    const otherwise = isOfEarlierEpoch ? "the epoch of the store was raised" : "the holder withdrew";
    const why = value.resign ?? stand.withdrawal ?? (this.fault || otherwise);
    stand.releasedNumber = value.fence.number;
    if (value.resign !== undefined) stand.notBeforeMs = time.monoMs + this.#options.leaseMs;
    const released = { ...value, session: "", reason: why, correlationId: this.#options.newId(), resign: undefined };
    this.#write(stand, this.#mustRemember(value) ? released : undefined, [{ key: stand.key, version }], out);
  }

  /**
   * Whether the record of a scope without a leader stays in the store. Programs choose their scopes, and would fill the store with such records. But if the
   * number of the fence is above the revision of the store, the record must stay, so that the next leader has a greater number.
   */
  #mustRemember({ holderId, nodeId, fence }: LeaderRecord): boolean {
    return holderId === nodeId || fence.number > this.#revision;
  }

  #write(stand: Stand, record: LeaderRecord | undefined, conditions: readonly StoreCondition[], out: LeadershipOutput[]): void {
    const { key } = stand;
    // The session is a condition, because another store can have the same versions, but not this session.
    const { name, version } = this.#session;
    const session = { key: SESSIONS + name, version };
    stand.retryMs = NEVER;
    this.requests.transact([session, ...conditions], [{ key, value: record && encodeRecord(record) }], out, (result, later) => {
      if (result?.isCommitted === false && name === this.#session.name && version === this.#session.version)
        this.#checkSession(later, () => this.#session.found(result.versions[0] ?? 0, later.monoMs));
      // The watch reports the record before or after this answer.
      if (stand.retryMs === NEVER) stand.retryMs = later.monoMs + RETRY_MS;
    });
  }

  #askToResign({ order, scope, reason }: Extract<LeadershipInput, { readonly kind: "resign" }>, out: LeadershipOutput[]): void {
    const leader = this.#leaders.items.get(LEADERS + scope)?.value;
    const isLed = leader !== undefined && leader.session !== "";
    const marked = isLed ? { ...leader, resign: reason || "an operator asked for it" } : undefined;
    this.#carryOut(order, this.#leaders, LEADERS + scope, marked, out);
  }

  #raiseEpoch(order: OrderId, { wallMs }: Time, out: LeadershipOutput[]): void {
    const { store } = this;
    const raised = store && { ...store, epoch: Math.max(Math.floor(wallMs / 1000), store.epoch + 1) };
    this.#carryOut(order, this.#store, STORE_KEY, raised, out);
  }

  /** Carries out an order: changes a record if it still has the version in the copy. Refuses it if there is no record to change. */
  #carryOut<T extends LeaderRecord | StoreRecord>(
    order: OrderId,
    { items }: StoreCopy<T>,
    key: string,
    value: T | undefined,
    out: LeadershipOutput[],
  ): void {
    const fault = this.storeFault;
    if (fault !== "" || value === undefined) {
      const none: OrderRefusal = items.has(key)
        ? {
            reason: "no_leader",
            message: `the record ${key} cannot be read; when its holder has stopped, remove the record from the control store`,
          }
        : {
            reason: "no_leader",
            message: `${key.slice(LEADERS.length)} has no leader; check the name of the scope, and that a node or a program is a candidate`,
          };
      out.push({ kind: "ordered", order, refusal: fault === "" ? none : { reason: "store_unavailable", message: fault } });
      return;
    }
    const condition = { key, version: items.get(key)?.version ?? 0 };
    this.requests.transact([condition], [{ key, value: encodeRecord(value) }], out, (result, { monoMs }, later) => {
      // The copy must show the change when the order is answered. The watch may have reported it, or a later change, already.
      if (result?.isCommitted === true && items.get(key)?.version === condition.version)
        items.set(key, { version: result.versions[0] ?? 0, value, sinceMs: monoMs });
      later.push({ kind: "ordered", order, refusal: refusalOf(result, key) });
    });
  }

  /** The sessions of others that this node may delete, and when: each must be silent for a whole lease. */
  *#watchedSessions(): Generator<StoreCondition & { readonly dueMs: number }> {
    if (this.#stop !== "no" || this.#isAway) return;
    for (const copy of this.#sessions.values())
      for (const [key, item] of copy.items) {
        const [{ version, sinceMs }, leaseMs] = [item, leaseOf(item)];
        if (key === SESSIONS + this.#session.name) continue;
        yield { key, version, dueMs: Math.max(sinceMs + leaseMs, this.#backMs + leaseMs / 3 + RETURN_MS) };
      }
  }

  #deleteSession(condition: StoreCondition, out: LeadershipOutput[]): void {
    this.#deletionMs = NEVER;
    this.requests.transact([condition], [{ key: condition.key, value: undefined }], out, (_result, { monoMs }) => {
      // The watch reports the end of the session, or its renewal, before or after this answer.
      if (this.#deletionMs === NEVER) this.#deletionMs = monoMs + RETRY_MS;
    });
  }

  /** The leader of the global scope lets the store forget the changes of more than one interval ago. */
  #compact(time: Time, out: LeadershipOutput[]): void {
    const { compactMs, isOwnStore } = this.#options;
    if (compactMs === 0 || isOwnStore) return;
    if (!this.#isGlobalLeader) this.#compaction = undefined;
    else if (this.#compaction === undefined || time.monoMs >= this.#compaction.dueMs) {
      if (this.#compaction !== undefined) out.push({ kind: "compact", revision: this.#compaction.revision });
      this.#compaction = { revision: this.#revision, dueMs: time.monoMs + compactMs };
    }
  }

  /** Watches the sessions of the holders that this node may succeed. The leader of the global scope watches all sessions, to remove silent ones. */
  #watch(out: LeadershipOutput[]): void {
    if (this.#options.isOwnStore) return;
    const wanted = this.#isFollowed || this.#isGlobalLeader ? new Set([SESSIONS]) : this.#rivalSessions();
    const known = [...this.#sessions];
    for (const prefix of wanted)
      if (!this.#sessions.has(prefix)) {
        const copy = new StoreCopy(decodeSession);
        // A session that is silent stays silent.
        for (const [key, item] of known.flatMap(([, { items }]) => [...items])) if (key.startsWith(prefix)) copy.items.set(key, item);
        this.#sessions.set(prefix, copy);
        out.push({ kind: "watch", prefix });
      }
    for (const [prefix] of known)
      if (!wanted.has(prefix)) {
        this.#sessions.delete(prefix);
        out.push({ kind: "unwatch", prefix });
      }
  }

  get #isGlobalLeader(): boolean {
    return this.#heldRecord(this.#stands.get(GLOBAL_SCOPE)) !== undefined;
  }

  /** The keys of the sessions of the holders that this node may succeed. */
  #rivalSessions(): ReadonlySet<string> {
    const names = new Set<string>();
    for (const { key } of this.#stands.values()) names.add(this.#leaders.items.get(key)?.value?.session ?? "");
    return new Set([...names].filter((name) => name !== "" && name !== this.#session.name).map((name) => SESSIONS + name));
  }

  #endSession(time: Time, out: LeadershipOutput[]): void {
    if (this.#stop !== "begun" || this.#isSessionUsed || this.#stands.size > 0 || this.requests.size > 0) return;
    const { name, version } = this.#session;
    const key = SESSIONS + name;
    const ended: Answered = (_result, _time, later) => {
      this.#stop = "over";
      later.push({ kind: "stopped" });
    };
    if (version === 0) ended(undefined, time, out);
    else this.requests.transact([{ key, version }], [{ key, value: undefined }], out, ended);
  }
}

function electionReason(before: LeaderRecord | undefined): string {
  if (before === undefined) return "the scope had no leader";
  return before.session === "" ? `${before.nodeId} gave the scope up: ${before.reason}` : `the session of ${before.nodeId} ended`;
}

/** The lease (ms) of a session. A session that cannot be read may have the longest lease. */
function leaseOf({ value }: CopiedItem<SessionRecord>): number {
  return value?.leaseMs ?? LEASE_BOUNDS.maxMs;
}

function refusalOf(result: TransactResult | undefined, key: string): OrderRefusal | undefined {
  if (result?.isCommitted === true) return undefined;
  if (result !== undefined)
    return {
      reason: "version_conflict",
      message: `the record ${key} in the control store was changed at the same time; read the leaders again`,
    };
  return { reason: "store_unavailable", message: "the control store did not answer; the change may have happened, so read it again" };
}

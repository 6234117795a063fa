/** The work of a node on its summaries, in slices: it verifies, hides, shows and ends (docs/design/summaries.md). */
import { BODY, type KeyText, keyParts } from "../../catalog/record/record.ts";
import type { StoredRecord } from "../../catalog/record/stored-record.ts";
import { TokenBuckets } from "../../lib/buckets/token-bucket.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import { BEACON_NAMESPACE, beaconKey } from "../keys.ts";
import { FINDING, isProven, isUnseen } from "./judge.ts";
import type { Keeping } from "./keeping.ts";
import type { Source } from "./sources.ts";

/** Keys that a call looks at, and how many of them a signature stands for: 20 signatures are some 3 ms. */
const SLICE_KEYS = 400;
const SIGNATURE_KEYS = 20;
/** All keys of a source are looked at for what its beacons took back, 20,000 in some 2 ms. Who floods beacons makes that no more frequent. */
const FIND_TOLD_MS = 1000;

/** A cluster is asked about so often in a minute. Each time costs a look at all records, and the cluster decides how often its keys change. */
const ASKED_A_MINUTE = 6;
/** Stands for all clusters, in place of a name. */
const ALL = "";

/** Why keys are looked at again: our rules changed, or readers are to be told of what stays in sight too. */
type Why = "rules" | "stale";

interface Sweep {
  readonly keys: Generator<KeyText, void>;
  readonly why: Why;
  /** The only source of which keys are looked at. */
  readonly source?: Source;
}

/** All records up to a revision are to be asked again whether their key counts. */
interface Asking {
  after: number;
  readonly until: number;
  /** Of these clusters; undefined for all. */
  readonly clusters: ReadonlySet<string> | undefined;
  /** What this node took of these and does not count now either ends. */
  readonly ending: ReadonlySet<string>;
  /** Of these something that this node took stays hidden. */
  readonly hidden: Set<string>;
}

export class Chores {
  readonly #keeping: Keeping;
  /** Changes up to this revision were looked at. */
  #seen = 0;
  #sweeps: Sweep[] = [];
  #asking: Asking | undefined;
  /** Clusters that are to be asked about, and from when on one of them may be. */
  readonly #toAsk = new Set<string>();
  #askMonoMs = Number.NEGATIVE_INFINITY;
  /** Of these what does not count then ends. */
  #toEnd = new Set<string>();
  readonly #asked = new TokenBuckets({ limit: ASKED_A_MINUTE, windowMs: 60_000, maxKeys: 1024 });
  /** What is over is dropped from then on, until nothing more is. */
  #pruneMonoMs = Number.NEGATIVE_INFINITY;

  constructor(keeping: Keeping) {
    this.#keeping = keeping;
  }

  /** Our rules changed. All is looked at again. */
  sweepAll(): void {
    this.#sweeps = this.#sweeps.filter(({ why }) => why !== "rules");
    this.#sweeps.push({ keys: keysOf(this.#keeping.sources.all), why: "rules" });
  }

  /** Other keys of these clusters count. What was refused is looked at too, so the records are walked, and not what is known of them. */
  askKeys(clusters: readonly string[] | undefined): void {
    for (const cluster of clusters ?? [ALL]) this.#toAsk.add(cluster);
    this.#askMonoMs = Number.NEGATIVE_INFINITY;
  }

  get hasMore(): boolean {
    const { again, replica, digests, ends } = this.#keeping;
    if (this.#sweeps.length + again.size > 0 || ends.hasMore || this.#asking !== undefined) return true;
    if (this.#toAsk.size > 0 && this.#askMonoMs === Number.NEGATIVE_INFINITY) return true;
    return this.#seen < replica.revision || digests.isFilling;
  }

  /** When there is work next. */
  nextDeadlineMs(time: Time): number {
    const { sources, ends, withdrawals, replica } = this.#keeping;
    if (this.hasMore) return time.monoMs;
    const overMonoMs = Math.min(withdrawals.nextOverMonoMs(), replica.nextCollectMonoMs());
    const lookMonoMs = sources.all.map(({ isToldMore, findToldMonoMs, endHiddenMonoMs }) =>
      Math.min(isToldMore ? findToldMonoMs : NEVER, endHiddenMonoMs),
    );
    const askMonoMs = this.#toAsk.size > 0 ? this.#askMonoMs : NEVER;
    return Math.min(askMonoMs, ...lookMonoMs, sources.nextTurnMonoMs(), ends.nextEndMonoMs(time), Math.max(overMonoMs, this.#pruneMonoMs));
  }

  /** Does a slice of the work. Returns whether there is more. */
  work(time: Time): boolean {
    this.#advance(time);
    let left = this.#lookAtChanges(SLICE_KEYS, time);
    for (const key of this.#keeping.again) {
      if (left <= 0) break;
      left -= 1;
      this.#keeping.again.delete(key);
      this.#keeping.follow(key, time);
    }
    this.#beginAsking(time);
    if (left > 0 && this.#asking !== undefined) left = this.#ask(this.#asking, left, time);
    while (left > 0 && this.#sweeps.length > 0) left = this.#walk(left, time);
    if (left > 0) this.#keeping.digests.fill();
    return this.hasMore;
  }

  #advance(time: Time): void {
    const { sources, ends, again, replica } = this.#keeping;
    for (const source of sources.advance(time)) {
      // One that turned again before it was looked at is looked at once.
      this.#sweeps = this.#sweeps.filter((sweep) => sweep.source !== source);
      this.#sweeps.push({ keys: keysOf([source]), why: "stale", source });
    }
    for (const key of ends.advance(time)) again.add(key);
    for (const source of sources.all) {
      if (time.monoMs >= source.endHiddenMonoMs) this.#askToEnd(source);
      if (!source.isToldMore || time.monoMs < source.findToldMonoMs) continue;
      source.findToldMonoMs = time.monoMs + FIND_TOLD_MS;
      this.#keeping.findTold(source);
    }
    replica.sweep(SLICE_KEYS, time);
    // Tombstones above their bound go at once.
    replica.collect(time, SLICE_KEYS, "count");
    if (time.monoMs >= this.#pruneMonoMs && !this.#prune(time)) this.#pruneMonoMs = time.monoMs + this.#keeping.options.pruneIntervalMs;
  }

  #askToEnd(source: Source): void {
    source.endHiddenMonoMs = NEVER;
    this.#toEnd.add(source.id);
    this.askKeys([source.id]);
  }

  /** Drops a slice of what is over, and returns whether there may be more. */
  #prune(time: Time): boolean {
    const { sources, withdrawals, replica, own } = this.#keeping;
    const over = withdrawals.takeOver(time, SLICE_KEYS);
    withdrawals.forgetTold(time, (source, tags) => this.#keeping.heldOf(source, tags));
    for (const [key, version] of over) this.#forgetWithdrawal(key, version, time);
    for (const source of sources.all) {
      if (!sources.isForgotten(source, time)) continue;
      const beacon = own.find(beaconKey(source.id));
      if (beacon !== undefined) own.end(beacon, time);
      sources.forget(source);
    }
    const { tombstoneCount } = replica;
    replica.collect(time, SLICE_KEYS);
    return over.length > 0 || replica.tombstoneCount < tombstoneCount;
  }

  /** The withdrawal is no longer to be remembered, unless somebody still holds what it took back. */
  #forgetWithdrawal(key: KeyText, version: number, time: Time): void {
    const { own: records, replica, withdrawals } = this.#keeping;
    const own = records.find(key);
    if (own?.hlc !== version) return;
    if (replica.records(key).some((record) => record.hlc < version && isProven(record))) withdrawals.remember(key, version, time);
    else records.end(own, time);
  }

  /** Returns what is left of the budget. */
  #lookAtChanges(budget: number, time: Time): number {
    const { replica } = this.#keeping;
    const changes: (readonly [StoredRecord, number])[] = [];
    const until = replica.revision;
    replica.changesSince(this.#seen, (stored, revision) => changes.push([stored, revision]) < budget);
    let left = budget;
    for (const [stored, revision] of changes) {
      if (left <= 0) return left;
      left -= isUnseen(stored) ? SIGNATURE_KEYS : 1;
      this.#seen = revision;
      this.#keeping.look(stored, time);
      this.#keeping.follow(stored.key, time);
    }
    // Revisions at which nothing is held any more are passed over.
    if (changes.length < budget) this.#seen = until;
    return left;
  }

  #walk(budget: number, time: Time): number {
    const [sweep] = this.#sweeps;
    if (sweep === undefined) return budget;
    for (let left = budget; left > 0; left--) {
      const next = sweep.keys.next();
      if (next.done === true) {
        this.#sweeps.shift();
        return left;
      }
      this.#visit(next.value, sweep.why, time);
    }
    return 0;
  }

  #visit(key: KeyText, why: Why, time: Time): void {
    const { replica } = this.#keeping;
    const seen = replica.view(key);
    this.#keeping.follow(key, time);
    const now = replica.view(key);
    if (why === "stale" && now === seen) for (const record of replica.records(key)) if (record === now) replica.touch(record);
  }

  /** Begins to ask, about all clusters together that may be asked about now. What changes meanwhile is asked about afterwards. */
  #beginAsking({ monoMs }: Time): void {
    if (this.#asking !== undefined || monoMs < this.#askMonoMs) return;
    this.#askMonoMs = NEVER;
    const clusters = new Set<string>();
    for (const cluster of this.#toAsk) {
      const waitMs = this.#asked.take(cluster, monoMs);
      if (waitMs > 0) this.#askMonoMs = Math.min(this.#askMonoMs, monoMs + waitMs);
      else if (this.#toAsk.delete(cluster)) clusters.add(cluster);
    }
    if (clusters.size === 0) return;
    const asked = clusters.has(ALL) ? undefined : clusters;
    const ending = new Set([...this.#toEnd].filter((id) => asked?.has(id) ?? true));
    this.#toEnd = this.#toEnd.difference(ending);
    this.#asking = { after: 0, until: this.#keeping.replica.revision, clusters: asked, ending, hidden: new Set() };
  }

  /** Asks some records again whether their signature counts. */
  #ask(asking: Asking, budget: number, time: Time): number {
    const { clusters } = asking;
    if (asking.after === 0) this.#distrust(clusters, time);
    const records: (readonly [StoredRecord, number])[] = [];
    this.#keeping.replica.changesSince(asking.after, (stored, revision) => {
      if (revision > asking.until) return false;
      return records.push([stored, revision]) < budget;
    });
    let left = budget;
    for (const [stored, revision] of records) {
      if (left <= 0) return left;
      asking.after = revision;
      const { clusterId } = keyParts(stored.key);
      if (clusters?.has(clusterId) === false) left -= 1;
      else {
        left -= this.#askAgain(stored, time);
        if (this.#isHidden(stored)) this.#endHidden(stored, asking, time);
      }
    }
    if (records.length < budget) this.#endAsking(asking);
    return left;
  }

  /** Whether this node took it and does not count it any more. */
  #isHidden(stored: StoredRecord): boolean {
    return stored.origin === this.#keeping.replica.self && stored.body === BODY.ENTRY && stored.revision >= 0 && !isProven(stored);
  }

  /** What is hidden is kept for a while: a key may be taken out by mistake. It is in no count of what its source may have here, so it must end. */
  #endHidden(stored: StoredRecord, { ending, hidden }: Asking, time: Time): void {
    const { sources, own, options } = this.#keeping;
    const { clusterId } = keyParts(stored.key);
    const source = sources.find(clusterId);
    if (ending.has(clusterId)) {
      own.end(stored, time);
      this.#keeping.follow(stored.key, time);
    } else {
      hidden.add(clusterId);
      if (source?.isAnyHidden !== false) return;
      source.isAnyHidden = true;
      source.endHiddenMonoMs = time.monoMs + options.ttlMs + options.staleKeepMs;
    }
  }

  /** All were asked. Where nothing is hidden any more, because a key came back, what is hidden later is kept for as long again. */
  #endAsking({ clusters, hidden }: Asking): void {
    this.#asking = undefined;
    for (const source of this.#keeping.sources.all) {
      if (clusters?.has(source.id) === false) continue;
      source.isAnyHidden = hidden.has(source.id);
      if (source.isAnyHidden) continue;
      source.endHiddenMonoMs = NEVER;
      this.#toEnd.delete(source.id);
    }
  }

  /** Of what keys said that count no more nothing is left but records, which are asked after that. */
  #distrust(clusters: ReadonlySet<string> | undefined, time: Time): void {
    for (const source of this.#keeping.sources.all) {
      if (clusters?.has(source.id) === false || !this.#keeping.distrust(source, time)) continue;
      this.#sweeps.push({ keys: keysOf([source]), why: "rules" });
    }
  }

  /** Returns what it costs. */
  #askAgain(stored: StoredRecord, time: Time): number {
    if (stored.body !== BODY.ENTRY || stored.revision < 0) return 1;
    const wasProven = isProven(stored);
    if (wasProven && !this.#keeping.judge.isRefusedNow(this.#keeping.bytesOf(stored), time)) {
      // The announcement itself may be over.
      if (stored.namespace === BEACON_NAMESPACE) this.#keeping.follow(stored.key, time);
      return 1;
    }
    stored.finding = wasProven ? FINDING.LOOKED : 0;
    this.#keeping.look(stored, time);
    this.#keeping.follow(stored.key, time);
    return wasProven ? 1 : SIGNATURE_KEYS;
  }
}

function* keysOf(sources: readonly Source[]): Generator<KeyText, void> {
  for (const source of sources) {
    yield beaconKey(source.id);
    yield* source.keys.keys();
  }
}

/** A client's watch: pulls when it has time, folds what it gets, changes nodes with its portable cursor, and checks P3 at every message. */

import { type CatalogRecord, deltaId, type KeyText } from "../../src/catalog/record/record.ts";
import { StoredRecord } from "../../src/catalog/record/stored-record.ts";
import type { Replica } from "../../src/catalog/replica/replica.ts";
import { type PortableCursor, parseCursor } from "../../src/catalog/watch/cursor.ts";
import { type FeedStart, WatchFeed } from "../../src/catalog/watch/feed.ts";
import { ACTION, type ChangeAction, type FeedMessage, SNAPSHOT } from "../../src/catalog/watch/reader.ts";
import type { WatchStream } from "../../src/discovery/fanout.ts";
import { sha256 } from "../../src/lib/crypto.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { lineOf } from "../fakes/model.ts";
import { FILTERS } from "../fakes/stream.ts";
import type { Checks } from "./checks.ts";
import type { WatchPlan } from "./plan.ts";
import type { Place } from "./sim-copy.ts";
import type { SimNode, SimProcess } from "./sim-node.ts";
import type { Trace } from "./trace.ts";
import type { World } from "./world.ts";

export const FILTER_COUNT = FILTERS.length;
/** A filter, by one of two viewers. */
export const ASKED_COUNT = 2 * FILTER_COUNT;
/** Filters up to here are by namespace only, and ask for a digest. */
const DIGESTED = 3;
const BOOKMARK_MS = 3000;
/** Bookmarks that are due are looked for so often, and those watches are woken within a moment. */
const BOOKMARK_TICK_MS = 205;
/** A node that remembers more than these remembers all that a stream of a seed asks for. */
const MANY_TOUCHES = 1000;
/** Some streams are cut and opened elsewhere in their node after so many ENDs and bookmarks, to go on from the cursor of the one at the other. */
const HOP_EVERY = 3;
/** Messages taken in one look. */
const MESSAGES = 12;

/** A stream at one process. */
interface Open {
  readonly place: Place;
  readonly process: SimProcess;
  readonly feed: WatchFeed;
  readonly watcher: WatchStream;
  /** It never resumed, and its node remembers what was seen before. */
  readonly isMeasured: boolean;
  readonly openedMs: number;
  /** Whether its node has asked it to end. */
  readonly ending: { isAsked: boolean };
  /** When each key was told of last. */
  readonly toldMs: Map<string, number>;
  /** By origin, when it last looked while touches were owed to its records. */
  readonly betweenMs: Map<string, number>;
  /** Something may have come since it last had nothing to say: it is new, was woken, or told to look anew. */
  isWoken: boolean;
  /** When it last had nothing to say. */
  askedMonoMs: number;
}

export interface WatchParts {
  readonly world: World;
  readonly nodes: readonly SimNode[];
  readonly checks: Checks;
  readonly trace: Trace;
  /** Called with each change outside of snapshots. */
  readonly onChange?: (watch: number, action: ChangeAction, record: CatalogRecord) => void;
}

export class SimWatch {
  readonly index: number;
  readonly #plan: WatchPlan;
  /** Filter and viewer, as one number below `ASKED_COUNT`. */
  #asked: number;
  readonly #parts: WatchParts;
  #node: number;
  #open: Open | undefined;
  readonly #held = new Map<string, string>();
  #staged: { readonly replaces: readonly string[]; readonly seen: Set<string> } | undefined;
  #short: { readonly text: string; readonly boot: string } | undefined;
  #portable = "";
  /** Cursor that this stream was resumed from, while its node may be behind it. */
  #resumed: PortableCursor | undefined;
  /** Newest seq seen of each key and origin. */
  readonly #newest = new Map<string, number>();
  /** Keys told since the last portable cursor. */
  readonly #told = new Set<string>();
  /** Told by another node after the cursor, so not known to this one: when it is not told again by the next bookmark, begin anew. */
  readonly #doubted = new Set<string>();
  /** Of measured streams: deltas, those that removed what was not held, those that said what was held. */
  readonly told = { count: 0, useless: 0, repeated: 0 };
  /** ENDs and bookmarks that held. */
  settledCount = 0;
  #openCount = 0;
  /** When the last one came, in true time. */
  settledMs = 0;

  constructor(index: number, plan: WatchPlan, parts: WatchParts) {
    this.index = index;
    this.#plan = plan;
    this.#asked = plan.filter;
    this.#parts = parts;
    this.#node = plan.node;
  }

  start(): void {
    this.#parts.world.after(this.#plan.everyMs, () => {
      this.#look();
      this.start();
    });
  }

  /** The place of the open stream. */
  get place(): Place | undefined {
    return this.#open?.place;
  }

  /** The stream is cut; another is opened at that node. */
  move(node: number): void {
    this.#close();
    this.#node = node;
  }

  /** The stream is cut; another is opened there, for something else or by somebody else, with the cursors and the content of this one. */
  askElse(asked: number): void {
    this.#close();
    this.#asked = asked;
  }

  // ---- streams ----

  #look(): void {
    const open = this.#openStream();
    if (open === undefined || open.process.node.isFrozen) return;
    open.place.refresh();
    open.place.waking.wakeComing();
    for (const id of owing(open.process.replica)) open.betweenMs.set(id, this.#parts.world.nowMs);
    for (let n = 0; n < MESSAGES; n++) {
      const { process, place, feed } = open;
      const { bookmarkDueMonoMs } = feed;
      const { monoMs } = process.time();
      const message = feed.next(process.time(), this.#plan.budgetBytes, process.isWhole);
      if (message === undefined) {
        // What it comes to know of what its cursor knew it is told without a change.
        open.isWoken = this.#resumed !== undefined;
        open.askedMonoMs = monoMs;
        if (open.ending.isAsked && place.fanout.drainShare > 0) this.#end(open);
        else if (feed.isCurrent) place.fanout.narrow(open.watcher);
        return;
      }
      this.#checkWoken(open, message, monoMs - Math.max(bookmarkDueMonoMs, open.askedMonoMs));
      // Too old to go on, a stream begins anew when it is asked, and holds everything until then: what follows comes in the same turn.
      open.isWoken ||= message.snapshot === SNAPSHOT.BEGIN;
      this.#take(open, message);
      if (this.#open !== open) return;
    }
  }

  /** Its node is drained: it gets its last position, and resumes on the next node. */
  #end(open: Open): void {
    const { process, feed } = open;
    const message = feed.farewell(process.time(), process.isWhole);
    if (message !== undefined) this.#take(open, message);
    this.move((process.node.index + 1) % this.#parts.nodes.length);
  }

  #openStream(): Open | undefined {
    const open = this.#open;
    if (open !== undefined && !open.place.isGone) return open;
    if (open !== undefined) this.#close();
    const { nodes } = this.#parts;
    let node = nodes[this.#node];
    if (node?.process === undefined) node = nodes.find((other) => other.process !== undefined && !other.isFrozen);
    if (node?.process === undefined || node.isFrozen) return undefined;
    this.#node = node.index;
    this.#open = this.#resume(this.#placeAt(node.process));
    const how = this.#resumed === undefined ? (this.#short === undefined ? "anew" : "at a revision") : "by a portable cursor";
    this.#parts.trace.say(() => `watch ${this.index} opens ${how} at ${this.#open?.place.name}`);
    return this.#open;
  }

  #close(): void {
    const open = this.#open;
    this.#open = undefined;
    this.#staged = undefined;
    if (open === undefined) return;
    open.place.fanout.remove(open.watcher);
    open.place.reads.release(open.feed.reader);
  }

  /** Every other stream is opened at the copy, where there is one. */
  #placeAt({ copy, place }: SimProcess): Place {
    this.#openCount += 1;
    copy?.refresh();
    return copy?.isWhole === true && (this.index + this.#openCount) % 2 === 0 ? copy : place;
  }

  #resume(place: Place): Open {
    const { reads } = place;
    const reader = reads.reader(callerAt(place, this.#asked), this.#request);
    this.#resumed = undefined;
    const short = this.#short;
    if (short !== undefined && short.boot === reads.node.boot) return this.#opened(place, reads.placed(parseCursor(short.text)), reader);
    this.#short = undefined;
    const portable = this.#portable === "" ? undefined : parseCursor(this.#portable);
    if (portable?.kind !== "portable") {
      this.#newest.clear();
      return this.#opened(place, undefined, reader);
    }
    const isOurs = portable.readerHash === reader.options.hash && portable.clusterId === reader.node.clusterId;
    if (isOurs) this.#resumed = portable;
    else this.#newest.clear();
    for (const key of this.#told) this.#doubted.add(key);
    return this.#opened(place, reads.placed(portable), reader);
  }

  #opened(place: Place, from: FeedStart["from"], reader: WatchFeed["reader"]): Open {
    const { process } = place;
    const feed = new WatchFeed(reader, { from, bookmarkIntervalMs: BOOKMARK_MS }, process.time());
    const ending = { isAsked: false };
    const watcher: WatchStream = {
      feed,
      isReady: false,
      wake: () => {
        open.isWoken = true;
      },
      stop: () => {
        ending.isAsked = true;
      },
    };
    place.fanout.add(watcher);
    const isMeasured = from === undefined && process.node.pastTouches > MANY_TOUCHES;
    const openedMs = this.#parts.world.nowMs;
    const open: Open = {
      place,
      process,
      feed,
      watcher,
      isMeasured,
      openedMs,
      ending,
      toldMs: new Map(),
      betweenMs: new Map(),
      isWoken: true,
      askedMonoMs: 0,
    };
    return open;
  }

  get #request() {
    const filter = this.#asked % FILTER_COUNT;
    return { filter: FILTERS[filter]!, isNamesOnly: filter % 2 === 1, withDigest: filter < DIGESTED };
  }

  #beginAnew(): void {
    this.#forget();
    this.#close();
  }

  #forget(): void {
    this.#newest.clear();
    this.#doubted.clear();
    this.#told.clear();
    this.#portable = "";
    this.#short = undefined;
  }

  // ---- messages ----

  #take(open: Open, message: FeedMessage): void {
    const { checks } = this.#parts;
    const { replica } = open.process;
    const what = `watch ${this.index} at ${open.place.name}`;
    this.#parts.trace.say(() => `${what} gets ${wordsOf(message)}`);
    this.#checkBehind(open, message, what);
    this.#checkSize(message, what);
    const isFresh = message.snapshot === SNAPSHOT.BEGIN && message.replaces.length === 0;
    if (isFresh) this.#unseeLost(open);
    if (message.snapshot === SNAPSHOT.BEGIN) this.#staged = { replaces: message.replaces, seen: new Set() };
    for (const { action, record } of message.changes) {
      if (this.#staged === undefined) this.#parts.onChange?.(this.index, action, record);
      const id = `${record.key} ${record.origin.id}`;
      if (this.#doubted.delete(record.key)) this.#unsee((key) => key === record.key);
      const newest = this.#newest.get(id) ?? 0;
      const isBackwards =
        action !== ACTION.REMOVE && record.seq < newest && !checks.isLost(record.origin.id) && !replica.forgotten.has(record.origin.id);
      checks.holds(
        !isBackwards,
        "P3",
        () => `${what}: goes backwards for ${record.key} of ${record.origin.id}: ${record.seq} after ${newest}`,
      );
      this.#newest.set(id, action === ACTION.REMOVE ? Math.max(record.seq, newest) : record.seq);
      this.#told.add(record.key);
      if (open.isMeasured) this.#measure(open, action, record);
      if (action === ACTION.REMOVE) this.#held.delete(record.key);
      else {
        this.#held.set(record.key, lineOf(record.key, record));
        this.#staged?.seen.add(record.key);
      }
    }
    const isEnd = message.snapshot === SNAPSHOT.END;
    const isFull = this.#staged?.replaces.length === 0;
    if (isEnd) this.#swap();
    if (message.cursor !== "" && (this.#staged === undefined || isEnd))
      this.#short = { text: message.cursor, boot: open.place.reads.node.boot };
    if (!isEnd && !message.isBookmark) return;
    checks.holds(open.process.isReady, "readiness", () => `${what}: END or bookmark of a node that is not ready`);
    const { isSettling } = open.process.fabric.lifecycle;
    checks.holds(!isSettling, "P3", () => `${what}: END or bookmark while records are still to be touched, withdrawn or dropped`);
    if (isEnd && isFull) {
      this.#unsee((key) => this.#doubted.has(key));
      this.#doubted.clear();
    }
    this.#compare(open, message, what);
    this.#settled(message);
    if (this.#doubted.size > 0) this.#beginAnew();
    else if (this.index % 2 === 1 && this.settledCount % HOP_EVERY === 0) this.#close();
  }

  #measure(open: Open, action: ChangeAction, record: CatalogRecord): void {
    const { key, namespace } = record;
    const staged = this.#staged;
    const isReplaced = staged !== undefined && (staged.replaces.length === 0 || staged.replaces.includes(namespace));
    const line = isReplaced && !staged.seen.has(key) ? undefined : this.#held.get(key);
    const isKnown = !this.#isUnsure(open, record);
    this.told.count += 1;
    // Whoever was told that a key expired is told that it was unregistered, though it is gone.
    const isAgain = record instanceof StoredRecord && open.place.reads.replica.endedAgain.has(record);
    if (action === ACTION.REMOVE) this.told.useless += Number(isKnown && !isAgain && !this.#held.has(key));
    else this.told.repeated += Number(isKnown && line === lineOf(key, record));
    open.toldMs.set(key, this.#parts.world.nowMs);
  }

  /**
   * Whether its node cannot know what this stream was told of a key (semantics.md, Watch 2): since then it looked between a change of an origin and the touch
   * of its records.
   */
  #isUnsure({ process, openedMs, toldMs, betweenMs }: Open, { key }: CatalogRecord): boolean {
    const sinceMs = toldMs.get(key) ?? openedMs;
    const ids = process.replica.records(key).map(({ origin }) => origin.id);
    return ids.some((id) => (betweenMs.get(id) ?? -1) >= sinceMs);
  }

  /**
   * A stream is asked when the fan-out says that there is something: what it has to say without that would not have come. While a policy is put
   * in force, it may be owed more and less from slice to slice; it is woken at the end.
   */
  #checkWoken({ isWoken, place }: Open, { changes, snapshot, isBookmark }: FeedMessage, overdueMs: number): void {
    const isNews = snapshot !== SNAPSHOT.BEGIN && (changes.length > 0 || snapshot === SNAPSHOT.END);
    const isLate = !isWoken && ((isNews && !place.isSwitching) || (isBookmark && overdueMs > BOOKMARK_TICK_MS));
    const what = () => (isNews ? (changes[0]?.record.key ?? "its END") : `a bookmark of ${overdueMs} ms ago`);
    this.#parts.checks.holds(!isLate, "waking", () => `watch ${this.index} at ${place.name} was not woken for ${what()}`);
  }

  /** What is folded against what a query says there and then. */
  #compare(open: Open, message: FeedMessage, what: string): void {
    const { checks } = this.#parts;
    const records = this.#query(open.place);
    // A restored disk used numbers again that this stream's cursor has (semantics.md, Durability).
    const originOf = (line = "") => / (\S+)\/\d+ \d+$/.exec(line)?.[1] ?? "";
    const isTwofold = (key: string) =>
      checks.isLost(originOf(this.#held.get(key))) ||
      open.process.replica.records(key as KeyText).some(({ origin }) => checks.isLost(origin.id));
    const isSure = (key: string) => !this.#doubted.has(key) && (open.isMeasured || !isTwofold(key));
    const want = new Map(records.map((record) => [record.key as string, lineOf(record.key, record)]));
    const wrong: string[] = [];
    for (const [key, line] of want)
      if (isSure(key) && this.#held.get(key) !== line) wrong.push(`${this.#held.get(key) ?? "nothing"} should be ${line}`);
    for (const [key, line] of this.#held) if (isSure(key) && !want.has(key)) wrong.push(`${line} should be gone`);
    checks.holds(
      wrong.length === 0,
      "P3",
      () => `${what}, asked ${this.#asked}: folded at ${message.isBookmark ? "bookmark" : "END"}: ${wrong.join("; ")}`,
    );
    if (message.digest === undefined) return;
    const ids = records.map((record) => deltaId(record));
    const sum = ids.reduce((total, id) => total + BigInt(`0x${Buffer.from(sha256(id).subarray(0, 8)).toString("hex")}`), 0n);
    const isSame = message.digest.count === ids.length && message.digest.digest === BigInt.asUintN(64, sum);
    checks.holds(isSame, "P3", () => `${what}: digest of ${message.digest?.count} entries, there are ${ids.length}`);
  }

  #query(place: Place): readonly CatalogRecord[] {
    const records: CatalogRecord[] = [];
    let token = "";
    do {
      const page = place.reads.page(callerAt(place, this.#asked), {
        filter: this.#request.filter,
        limit: 100,
        token,
        isExplained: false,
        salt: "sim",
      });
      records.push(...page.records);
      token = page.nextToken;
    } while (token !== "");
    return records;
  }

  #settled(message: FeedMessage): void {
    this.settledCount += 1;
    this.settledMs = this.#parts.world.nowMs;
    this.#resumed = undefined;
    this.#told.clear();
    this.#portable = message.portableCursor;
    this.#parts.checks.holds(message.portableCursor !== "", "P3", () => `watch ${this.index}: END or bookmark without a portable cursor`);
  }

  /** At most so much a message unless one entry is larger (semantics.md, Watch 10). */
  #checkSize({ changes }: FeedMessage, what: string): void {
    const { budgetBytes } = this.#plan;
    const { isNamesOnly } = this.#request;
    const isShort = (action: number) => action === ACTION.REMOVE || isNamesOnly;
    const size = changes.reduce((sum, { action, record }) => sum + (isShort(action) ? record.key.length : record.sizeBytes), 0);
    this.#parts.checks.holds(
      size <= budgetBytes || changes.length === 1,
      "bounds",
      () => `${what}: ${changes.length} changes of ${size} bytes, ${budgetBytes} are allowed`,
    );
  }

  /** While the node is behind the cursor: no place to resume from, nothing that the reader may have newer. */
  #checkBehind({ process }: Open, message: FeedMessage, what: string): void {
    const { checks } = this.#parts;
    const behind = this.#uncovered(process).filter(({ isLost }) => !isLost);
    if (behind.length === 0) return;
    const { cursor, snapshot, isBookmark, digest } = message;
    const isPlace = cursor !== "" || snapshot !== SNAPSHOT.NONE || isBookmark || digest !== undefined;
    checks.holds(
      !isPlace,
      "P3",
      () => `${what}: a place to resume from while behind ${behind.map(({ id, seq }) => `${id}:${seq}`).join(" ")}`,
    );
    for (const { record } of message.changes) {
      const known = behind.find(({ id }) => id === record.origin.id);
      checks.holds(known === undefined || record.seq > known.seq, "P3", () => `${what}: told ${record.key} while behind it`);
    }
  }

  /** What the cursor knows and the node does not; lost when nobody can tell it any more, or may be after a minute. */
  #uncovered(process: SimProcess): readonly { readonly id: string; readonly seq: number; readonly isLost: boolean }[] {
    const { origins, self, forgotten } = process.replica;
    return (this.#resumed?.origins ?? []).flatMap(({ nodeId, generation, seq }) => {
      const id = `${nodeId}/${generation}`;
      const origin = origins.get(id);
      if (origin !== undefined && origin.through >= seq) return [];
      const isSuperseded = [...origins.values()].some((o) => o.nodeId === nodeId && o.generation > generation);
      const isGone = origin === undefined || origin === self || origin.life !== "live" || isSuperseded;
      return [{ id, seq, isLost: isGone || forgotten.has(id) || nodeId === self.nodeId }];
    });
  }

  #unseeLost({ process }: Open): void {
    for (const { id, isLost } of this.#uncovered(process))
      if (isLost) for (const key of this.#newest.keys()) if (key.endsWith(` ${id}`)) this.#newest.delete(key);
  }

  #unsee(isMeant: (key: string) => boolean): void {
    for (const id of this.#newest.keys()) if (isMeant(id.slice(0, id.lastIndexOf(" ")))) this.#newest.delete(id);
  }

  /** End of a snapshot: what it speaks for and did not list is gone. */
  #swap(): void {
    const staged = this.#staged;
    this.#staged = undefined;
    if (staged === undefined) return;
    for (const key of this.#held.keys()) {
      const isCovered = staged.replaces.length === 0 || staged.replaces.includes(key.split("\0")[0] ?? "");
      if (isCovered && !staged.seen.has(key)) this.#held.delete(key);
    }
  }
}

const SNAPSHOTS = ["", "BEGIN ", "CONTINUE ", "END "] as const;
const ACTIONS = ["", "create", "update", "remove"] as const;

function wordsOf({ changes, snapshot, isBookmark, replaces }: FeedMessage): string {
  const list = changes.map(({ action, record }) => `${ACTIONS[action]} ${record.key.replaceAll("\0", "|")} ${deltaId(record)}`);
  return `${SNAPSHOTS[snapshot]}${replaces.length > 0 ? `replaces ${replaces.join(",")} ` : ""}${isBookmark ? "bookmark " : ""}[${list.join("; ")}]`;
}

/** Those who ask by the second half of `ASKED_COUNT` are of a tenant to whom some policies show what they hide from all others. */
function callerAt({ node }: Place, asked: number) {
  const tenant = asked < FILTER_COUNT ? "" : "nobody";
  return { ...anonymousCaller(node.options.clusterId, "127.0.0.1", []), tenant };
}

/** Origins to whose records touches are owed now. */
function owing({ origins, sweeps }: Replica): readonly string[] {
  return sweeps.isOwed ? [...origins.values()].filter((origin) => sweeps.isOwedTo(origin)).map(({ id }) => id) : [];
}

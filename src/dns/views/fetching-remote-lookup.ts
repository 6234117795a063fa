/**
 * What the DNS of a resolver knows beside what it follows. A name is fetched when an answer needs it, and so is who carries an alias and what lies below a name.
 * What is not known is said to be unknown, so that no name is called absent that exists elsewhere (semantics.md, Resolver).
 */

import type { InstanceName } from "../../catalog/query/instances.ts";
import type { NameView } from "../../discovery/dns-names.ts";
import { BoundedMap } from "../../lib/bounded-map.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { AnswerQuality, LookupOptions } from "../../resolver/io-types.ts";
import type { ResolverMachine } from "../../resolver/machine.ts";
import {
  type AliasOwner,
  type LookupOutcome,
  PendingNameError,
  type RemoteDependencies,
  type RemoteLookup,
} from "../subject/remote-lookup.ts";
import { type AliasOwnerCache, type AliasOwners, aliasOwnersAt, type FoundAliasOwners, isAbove, isEmpty } from "./alias-owners.ts";

export interface RemoteLookupParts {
  readonly machine: Pick<ResolverMachine, "counts" | "isComplete"> & {
    /** As those of the machine. */
    readonly fetchedLeftMs: (name: InstanceName, time: Time) => number | undefined;
    readonly fetchedMark: (name: InstanceName) => number | undefined;
    /** What `ask` would answer at once of a name that is not followed. Undefined: it would be fetched. */
    readonly fetchedAnswer: (name: InstanceName, time: Time) => AnswerQuality | undefined;
    readonly upstreams: Pick<ResolverMachine["upstreams"], "cutOffMonoMs" | "isCutOff">;
  };
  /** Whether entries of a followed name are held, though they are probably gone upstream: what is told of it may be old then. */
  readonly isHeld: (name: InstanceName) => boolean;
  /** Asks for a name. Undefined: `told` is called once, later. Throws `not_ready`. */
  readonly ask: (name: InstanceName, asked: LookupOptions, told: (error: WaymarkError | undefined) => void) => AnswerQuality | undefined;
  readonly aliasOwners: AliasOwnerCache;
  /** Asks the upstream about a name of a zone. `told` is called once, later: with nothing if that failed. */
  readonly askAliasOwners: (name: string, zone: string, told: (aliasOwners: AliasOwners | undefined) => void) => void;
  /** Counts everything that the machine took in. */
  readonly inputCount: () => number;
  /** Counts changes of the policy, and followed namespaces that were let go: of those callers were told what no answer from before says. */
  readonly judgedRevision: () => number;
  readonly now: () => Time;
}

/** Answers are made anew after so long, so that their TTL goes down with what is left. */
const PLAN_MS = 1000;
/** What could not be fetched is not asked for again for so long. */
const FAILED_MS = 1000;
/** Most names that are remembered to have failed. */
const MAX_FAILED = 1000;
/** Most names above fetched ones that are remembered. */
const MAX_ABOVE = 10_000;
/** An upstream that has not answered for so long may have stopped: what it told before is told meanwhile. A question waits for a little longer. */
const LATE_MS = 400;
/** Most names about which the upstream is asked at a time. */
const MAX_ASKED = 1000;

export class FetchingRemoteLookup implements RemoteLookup {
  readonly held: RemoteLookup;
  readonly #parts: RemoteLookupParts;
  /** When what failed may be asked for again, the earliest first. */
  readonly #failed = new BoundedMap<string, number>(MAX_FAILED);
  readonly #asked = new Map<string, { readonly arrival: Promise<void>; readonly sinceMonoMs: number }>();
  /** The namespaces of fetched names that exist, and what lies above them in DNS: since when they do. */
  readonly #above = new Map<string, number>();
  /** Of the question that is looked at, as in `PendingNameError`. */
  #askedIn = new Set<string>();
  #mayWait: () => boolean = () => true;
  #changeCount = 0;
  /** What was told since `takeDependencies`. */
  #told = nothingTold();
  #leftMs = Number.POSITIVE_INFINITY;

  constructor(parts: RemoteLookupParts) {
    this.#parts = parts;
    this.held = heldOf(this, (name) => this.#isHeld(name));
  }

  get version(): number {
    return this.#parts.inputCount() + this.#changeCount;
  }

  takeDependencies(): RemoteDependencies {
    const { names, aliasOwners, planMs } = this.#told;
    this.#told = nothingTold();
    const marked = [...names.values()].map((name) => [name, this.#markOf(name)] as const);
    const asked = [...aliasOwners].map((key) => [key, this.#aliasOwnersMark(key)] as const);
    return { names: marked, aliasOwners: asked, untilMonoMs: this.#parts.now().monoMs + planMs, seenVersion: this.version };
  }

  isCurrent(told: RemoteDependencies): boolean {
    if (this.#parts.now().monoMs >= told.untilMonoMs) return false;
    const { version } = this;
    if (told.seenVersion === version) return true;
    for (const [name, mark] of told.names) if (this.#markOf(name) !== mark) return false;
    for (const [key, mark] of told.aliasOwners) if (this.#aliasOwnersMark(key) !== mark) return false;
    told.seenVersion = version;
    return true;
  }

  #markOf(name: InstanceName): number | undefined {
    const { machine } = this.#parts;
    return machine.isComplete(name.namespace) ? FOLLOWED : machine.fetchedMark(name);
  }

  #aliasOwnersMark(key: string): number | undefined {
    return this.isEmpty ? FOLLOWED : this.#parts.aliasOwners.markOf(key, this.#parts.judgedRevision());
  }

  get isEmpty(): boolean {
    return this.isFollowed("");
  }

  get isCutOff(): boolean {
    return this.#parts.machine.upstreams.isCutOff;
  }

  isFollowed(namespace: string): boolean {
    return this.#parts.machine.isComplete(namespace);
  }

  begin(waited: PendingNameError | undefined, mayWait: () => boolean): void {
    this.#askedIn = waited?.askedIn ?? new Set();
    this.#mayWait = mayWait;
  }

  require(name: InstanceName): void {
    const { machine, ask } = this.#parts;
    const key = this.#note(name);
    if (this.#hasFailed(key) && !this.#isHere(name)) throw unknown();
    if (!this.#isAnswered(name) && !this.#mayWait()) throw unknown();
    const { promise, resolve } = Promise.withResolvers<void>();
    const told = (error: WaymarkError | undefined) => {
      if (error !== undefined) this.#fail(key);
      resolve();
    };
    const isFurther = this.#askedIn.has(name.namespace);
    this.#askedIn.add(name.namespace);
    let answer: ReturnType<typeof ask>;
    try {
      answer = ask(name, { isFurther, isCounted: false }, told);
    } catch (error) {
      throw unknown(error);
    }
    if (answer === undefined) throw new PendingNameError(key, promise, this.#askedIn);
    if (answer.source !== "fetched") {
      if (this.#parts.isHeld(name)) this.#lasts(0);
      return;
    }
    this.#lasts(machine.fetchedLeftMs(name, this.#parts.now()) ?? 0);
    if (answer.isNegative === false) this.#exists(name.namespace, this.#parts.now().monoMs - answer.ageMs);
  }

  findAlias(name: string, zone: string, view: NameView, hasOwn: boolean): readonly AliasOwner[] {
    const found = this.#about(name, zone);
    if (found !== undefined) return this.#at(found, name, view, hasOwn);
    // While nobody can be asked, what is followed is served.
    if (hasOwn) return [];
    throw unknown();
  }

  hasNameUnder(suffix: string, zone: string, view: NameView): boolean {
    if (this.isEmpty) return false;
    const found = this.#about(suffix, zone);
    // What is followed is known without being asked.
    const unfollowed = { ...view, sees: (namespace: string) => !this.#parts.machine.isComplete(namespace) && view.sees(namespace) };
    const isThere = found !== undefined && isAbove(found.aliasOwners, suffix, unfollowed);
    if (!isThere && (found === undefined || found.state === "narrow")) throw unknown();
    if (found !== undefined) this.#lasts(found.leftMs);
    return isThere;
  }

  answered({ outcome, hasWaited }: LookupOutcome): void {
    const { counts, isComplete, upstreams } = this.#parts.machine;
    if (hasWaited || outcome === "unknown") return counts.miss();
    const isNegative = outcome === "absent" && !isComplete.call(this.#parts.machine, "");
    counts.hit({ isStale: upstreams.isCutOff, isNegative });
  }

  takeRemainingMs(): number {
    const leftMs = this.#leftMs;
    this.#leftMs = Number.POSITIVE_INFINITY;
    return leftMs;
  }

  #at(found: FoundAliasOwners, name: string, view: NameView, hasOwn: boolean): readonly AliasOwner[] {
    const { machine } = this.#parts;
    const aliasOwners = aliasOwnersAt(found.aliasOwners, name, view).filter(({ entry }) => !machine.isComplete(entry.key.namespace));
    if (found.state === "narrow" && aliasOwners.length === 0 && !hasOwn) throw unknown();
    this.#lasts(found.leftMs);
    return aliasOwners;
  }

  /** What is known of a name. Undefined if nothing is, and nobody can be asked. Throws `PendingNameError` while it is being asked. */
  #about(name: string, zone: string): FoundAliasOwners | undefined {
    const { machine, aliasOwners, judgedRevision, now } = this.#parts;
    if (this.isEmpty) return EVERYTHING_FOLLOWED;
    const { monoMs } = now();
    const key = `${name} ${zone}`;
    this.#told.aliasOwners.add(key);
    const kept = aliasOwners.find(key, judgedRevision(), monoMs, machine.upstreams.cutOffMonoMs);
    // That nothing lies there is over when something was fetched from there since.
    const isOver = kept?.aliasOwners.namespaces.length === 0 && kept.arrivedMonoMs < (this.#above.get(name) ?? Number.NEGATIVE_INFINITY);
    const found = isOver ? undefined : kept;
    if (found?.state === "fresh" || machine.upstreams.isCutOff) return found;
    // That nothing exists is not said beyond its time while anybody can be asked.
    const isLate = monoMs - (this.#asked.get(key)?.sinceMonoMs ?? monoMs) >= LATE_MS && found !== undefined && !isEmpty(found.aliasOwners);
    if (isLate || this.#hasFailed(key)) return found && { ...found, state: "narrow" };
    throw new PendingNameError(key, this.#ask(key, name, zone), this.#askedIn);
  }

  #exists(namespace: string, sinceMonoMs: number): void {
    for (let at = 0, dot = 0; dot >= 0; at = dot + 1) {
      const name = namespace.slice(at);
      this.#above.delete(name);
      this.#above.set(name, sinceMonoMs);
      dot = namespace.indexOf(".", at);
    }
    for (const oldest of this.#above.keys()) {
      if (this.#above.size <= MAX_ABOVE) return;
      this.#above.delete(oldest);
    }
  }

  #ask(key: string, name: string, zone: string): Promise<void> {
    const running = this.#asked.get(key);
    if (running !== undefined) return running.arrival;
    if (this.#asked.size >= MAX_ASKED || !this.#mayWait()) throw unknown();
    const { aliasOwners, askAliasOwners, judgedRevision, now } = this.#parts;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#asked.set(key, { arrival: promise, sinceMonoMs: now().monoMs });
    // What it brings was judged under this policy, or a newer one.
    const version = judgedRevision();
    askAliasOwners(name, zone, (told) => {
      if (told === undefined) this.#fail(key);
      else aliasOwners.put(key, told, version, now().monoMs);
      this.#asked.delete(key);
      this.#changeCount += 1;
      resolve();
    });
    return promise;
  }

  #isHeld(name: InstanceName): boolean {
    const { machine, now } = this.#parts;
    this.#note(name);
    if (machine.isComplete(name.namespace)) return true;
    const leftMs = machine.fetchedLeftMs(name, now()) ?? 0;
    if (leftMs > 0) this.#lasts(leftMs);
    return leftMs > 0;
  }

  /** What was told just now stays so for this long. */
  #lasts(leftMs: number): void {
    if (leftMs === Number.POSITIVE_INFINITY) return;
    this.#leftMs = Math.min(this.#leftMs, Math.max(0, leftMs));
    if (leftMs > 0) this.#told.planMs = Math.min(this.#told.planMs, leftMs);
  }

  /** The plan that is made rests on what is known of this name. Returns its key. */
  #note(name: InstanceName): string {
    const key = `${name.namespace}\0${name.name}\0${name.kind}`;
    // That a namespace is followed the plan rests on by itself.
    if (!this.#parts.machine.isComplete(name.namespace)) this.#told.names.set(key, name);
    return key;
  }

  #fail(key: string): void {
    this.#failed.set(key, this.#parts.now().monoMs + FAILED_MS);
    this.#changeCount += 1;
  }

  #hasFailed(key: string): boolean {
    const untilMonoMs = this.#failed.get(key);
    if (untilMonoMs === undefined) return false;
    if (this.#parts.now().monoMs < untilMonoMs) return true;
    this.#failed.delete(key);
    return false;
  }

  #isAnswered(name: InstanceName): boolean {
    const { machine, now } = this.#parts;
    return machine.isComplete(name.namespace) || machine.fetchedAnswer(name, now()) !== undefined;
  }

  #isHere(name: InstanceName): boolean {
    const { machine, now } = this.#parts;
    return machine.isComplete(name.namespace) || machine.fetchedLeftMs(name, now()) !== undefined;
  }
}

/** The mark of what is followed. No other is below 0. */
const FOLLOWED = -1;

function nothingTold() {
  return { names: new Map<string, InstanceName>(), aliasOwners: new Set<string>(), planMs: PLAN_MS };
}

/** What is held, for additional records. */
function heldOf(of: RemoteLookup, isHeld: (name: InstanceName) => boolean): RemoteLookup {
  const refuse = (): never => {
    throw unknown();
  };
  return {
    get held() {
      return this;
    },
    get version() {
      return of.version;
    },
    get isEmpty() {
      return of.isEmpty;
    },
    get isCutOff() {
      return of.isCutOff;
    },
    takeDependencies: () => of.takeDependencies(),
    isCurrent: (told) => of.isCurrent(told),
    isFollowed: (namespace) => of.isFollowed(namespace),
    require: (name) => (isHeld(name) ? undefined : refuse()),
    begin: refuse,
    answered: refuse,
    findAlias: refuse,
    hasNameUnder: refuse,
    takeRemainingMs: () => of.takeRemainingMs(),
  };
}

const EVERYTHING_FOLLOWED: FoundAliasOwners = {
  aliasOwners: { atName: [], namespaces: [], claims: [], isMore: false, sizeBytes: 0 },
  state: "fresh",
  leftMs: Number.POSITIVE_INFINITY,
  arrivedMonoMs: Number.POSITIVE_INFINITY,
};

/** Whatever the reason, a question is answered as one of which nothing is known. */
function unknown(cause?: unknown): WaymarkError {
  return new WaymarkError("not_ready", "this resolver does not know the name, and no server answers that could tell", { cause });
}

/**
 * Implements the remote lookups of a resolver. It fetches a name, the owners of an alias, or the names below a name when an answer needs them. An
 * unknown name is reported as unknown, so that an existing name never gets NXDOMAIN (semantics.md, Resolver).
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
    /** These functions are the same as in `ResolverMachine`. */
    readonly fetchedLeftMs: (name: InstanceName, time: Time) => number | undefined;
    readonly fetchedMark: (name: InstanceName) => number | undefined;
    /** Returns the answer that `ask` would give immediately for an unwatched name. Returns undefined if the name would be fetched. */
    readonly fetchedAnswer: (name: InstanceName, time: Time) => AnswerQuality | undefined;
    readonly upstreams: Pick<ResolverMachine["upstreams"], "cutOffMonoMs" | "isCutOff">;
  };
  /** Returns whether entries of a watched name are retained although they were probably removed upstream. Such data may be stale. */
  readonly isHeld: (name: InstanceName) => boolean;
  /** Requests a name. Returns undefined while the name is being fetched. `told` is then called once when the fetch ends. Throws `not_ready`. */
  readonly ask: (name: InstanceName, asked: LookupOptions, told: (error: WaymarkError | undefined) => void) => AnswerQuality | undefined;
  readonly aliasOwners: AliasOwnerCache;
  /**
   * Queries the upstream for the owners of a name in a zone and for the names below it. `told` is called once, asynchronously, with undefined if the
   * request failed.
   */
  readonly askAliasOwners: (name: string, zone: string, told: (aliasOwners: AliasOwners | undefined) => void) => void;
  /** Number of inputs that the machine has processed. */
  readonly inputCount: () => number;
  /**
   * Increases with each policy change, and whenever a namespace is no longer watched. Earlier results are then older than answers that clients have
   * already received.
   */
  readonly judgedRevision: () => number;
  readonly now: () => Time;
}

/** Plans with remote data are rebuilt after this time, so that their TTL decreases. */
const PLAN_MS = 1000;
/** A failed lookup is not repeated for this long. */
const FAILED_MS = 1000;
/** Maximum number of failed lookups that are remembered. */
const MAX_FAILED = 1000;
/** Maximum number of remembered names above fetched names. */
const MAX_ABOVE = 10_000;
/** After this time without a response, the upstream may have failed, and its earlier result is used. Questions wait slightly longer than this. */
const LATE_MS = 400;
/** Maximum number of concurrent requests to the upstream. */
const MAX_ASKED = 1000;

export class FetchingRemoteLookup implements RemoteLookup {
  readonly held: RemoteLookup;
  readonly #parts: RemoteLookupParts;
  /** The times at which failed lookups may be repeated, earliest first. */
  readonly #failed = new BoundedMap<string, number>(MAX_FAILED);
  readonly #asked = new Map<string, { readonly arrival: Promise<void>; readonly sinceMonoMs: number }>();
  /** The times at which the namespaces of fetched names, and all DNS names above them, were last seen to exist. */
  readonly #above = new Map<string, number>();
  /** The requested namespaces of the current question, as in `PendingNameError`. */
  #askedIn = new Set<string>();
  #mayWait: () => boolean = () => true;
  #changeCount = 0;
  /** The lookups performed since the last call of `takeDependencies`. */
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
    // While no upstream can be queried, the answer consists of the entries in watched namespaces.
    if (hasOwn) return [];
    throw unknown();
  }

  hasNameUnder(suffix: string, zone: string, view: NameView): boolean {
    if (this.isEmpty) return false;
    const found = this.#about(suffix, zone);
    // Watched namespaces were already searched in the local catalog.
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

  /**
   * Returns the known result for a name. Returns undefined when no result is known and no upstream can be queried. Throws `PendingNameError` while
   * the result is being fetched.
   */
  #about(name: string, zone: string): FoundAliasOwners | undefined {
    const { machine, aliasOwners, judgedRevision, now } = this.#parts;
    if (this.isEmpty) return EVERYTHING_FOLLOWED;
    const { monoMs } = now();
    const key = `${name} ${zone}`;
    this.#told.aliasOwners.add(key);
    const kept = aliasOwners.find(key, judgedRevision(), monoMs, machine.upstreams.cutOffMonoMs);
    // A cached result without names below this name is outdated if a name below it was fetched later.
    const isOver = kept?.aliasOwners.namespaces.length === 0 && kept.arrivedMonoMs < (this.#above.get(name) ?? Number.NEGATIVE_INFINITY);
    const found = isOver ? undefined : kept;
    if (found?.state === "fresh" || machine.upstreams.isCutOff) return found;
    // An expired negative result is not used while an upstream can be queried.
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
    // The result is computed under this version of the policy or a newer version.
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

  /** Limits the lifetime of the results returned since the last `takeLeftMs`. */
  #lasts(leftMs: number): void {
    if (leftMs === Number.POSITIVE_INFINITY) return;
    this.#leftMs = Math.min(this.#leftMs, Math.max(0, leftMs));
    if (leftMs > 0) this.#told.planMs = Math.min(this.#told.planMs, leftMs);
  }

  /** Records that the plan depends on the lookup of this name. Returns its key. */
  #note(name: InstanceName): string {
    const key = `${name.namespace}\0${name.name}\0${name.kind}`;
    // For a watched namespace, the plan already depends on whether the namespace is watched.
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

/** The mark for watched data. All other marks are 0 or more. */
const FOLLOWED = -1;

function nothingTold() {
  return { names: new Map<string, InstanceName>(), aliasOwners: new Set<string>(), planMs: PLAN_MS };
}

/** Returns lookups that use the cache only, for additional records. */
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

/** Returns the error for an unknown name. The error does not depend on the reason, so all such questions get the same answer. */
function unknown(cause?: unknown): WaymarkError {
  return new WaymarkError("not_ready", "the name is not cached by this resolver, and no upstream could be queried", { cause });
}

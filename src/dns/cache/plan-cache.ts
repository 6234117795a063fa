/**
 * Caches plans by view and question, with limits on their number and memory. A plan becomes invalid only when one of its dependencies changes
 * (semantics.md, DNS).
 */
import { MAX_NEGATIVE_DNS_PLANS } from "../../lib/bounds.ts";
import { tableSlot } from "../../lib/hash64.ts";
import type { Time } from "../../lib/machine.ts";
import { zoneOf } from "../names/names.ts";
import { type AnswerPlan, cutOff, planAnswer, type QueryQuestion } from "../plan/answer.ts";
import type { DnsSettings } from "../records/record.ts";
import { RECORDS } from "../records/records.ts";
import type { ZoneSigner } from "../signing/zone-signer.ts";
import { type DependencyIndex, type PlanDependency, sizeOfDependencies } from "../subject/dependency-index.ts";
import { earlier } from "../subject/plan-dependencies.ts";
import type { RemoteDependencies } from "../subject/remote-lookup.ts";
import type { DnsCatalog } from "../subject/subject.ts";
import { LEAST_PLANS, PlanPool, type PooledPlan, type PreparedAnswer } from "./plan-pool.ts";
import { keptBytes, planBytes, thinned } from "./plan-size.ts";

export interface PlanCacheOptions {
  readonly settings: DnsSettings;
  /** Returns random numbers in [0, 1), used to draw part of a plan that is too large to cache. */
  readonly random: () => number;
  /**
   * Memory limit in bytes. It applies separately to positive and negative plans. When the limit is reached, plans that were not used recently are
   * evicted first.
   */
  readonly planBytes: number;
  /** Maximum number of negative plans. Defaults to `MAX_NEGATIVE_DNS_PLANS`. */
  readonly maxNegativePlans?: number | undefined;
  /** Signs plans for questions that request DNSSEC records. If absent, zones are not signed. */
  readonly signer?: ZoneSigner | undefined;
}

/** A cached plan with the data needed to reuse it. */
export interface CachedPlan<P extends PreparedAnswer = PreparedAnswer> {
  /** Undefined after the plan is prepared, unless other plans are built from it. */
  readonly plan: AnswerPlan | undefined;
  /** Set by `PlanCache.prepare`. Undefined until the encoder has prepared it, or if the cache has no room for it. */
  readonly prepared: P | undefined;
  readonly signed: AnswerPlan["signed"];
}

/**
 * Number of answers drawn from one sample of a name with many entries. Building a plan costs as much as about a hundred answers, and a sample has
 * about forty entries.
 */
const ANSWERS_PER_SAMPLE = 16;
/**
 * Number of answers drawn from one part of a plan that is too large to cache. Building such a plan needs about 0.1 s and creates megabytes of text.
 */
const ANSWERS_PER_PART = 256;
/** The dependencies of one plan can use at most this fraction (1/16) of the memory limit. If they need more, the plan depends on every change instead. */
const LEAST_FACTS = 16;
/** The sample counter of a plan with an unlimited number of answers. */
const ANY_NUMBER = { answersLeft: Infinity };
const NOTHING: readonly string[] = [];
/** Number of slots for hashes of recent questions with negative answers. */
const ASKED = 4096;
const NOTHING_TOLD: readonly RemoteDependencies[] = [];

export class PlanCache<P extends PreparedAnswer = PreparedAnswer> {
  readonly #options: PlanCacheOptions;
  /** Positive plans. */
  readonly #shown: PlanPool<P>;
  /** Negative plans. Clients can cause any number of negative plans by querying random names, so negative plans only evict each other. */
  readonly #negative: PlanPool<P>;
  /** The source of change notifications for the dependencies. */
  #changes: DnsCatalog["changes"] | undefined;
  #keysVersion: number | undefined;
  /** Hashes of questions with negative answers, each stored in the slot selected by the hash. */
  readonly #asked = new Int32Array(ASKED);
  #madeCount = 0;
  #contestedCount = 0;

  constructor(options: PlanCacheOptions) {
    const { maxNegativePlans = MAX_NEGATIVE_DNS_PLANS, planBytes: maxBytes } = options;
    this.#options = options;
    this.#shown = new PlanPool({ maxPlans: Infinity, maxBytes });
    this.#negative = new PlanPool({ maxPlans: maxNegativePlans, maxBytes });
  }

  /** Memory used by the cached plans, rounded up: at most `planBytes` for positive plans and the same for negative plans. */
  get sizeBytes(): number {
    return this.#shown.sizeBytes + this.#negative.sizeBytes;
  }

  /** Number of plans that were evicted to make room or were too large to cache. */
  get droppedCount(): number {
    return this.#shown.droppedCount + this.#negative.droppedCount;
  }

  /** Number of plans built for an alias that several services own. */
  get contestedCount(): number {
    return this.#contestedCount;
  }

  /** Number of plans built so far. */
  get madeCount(): number {
    return this.#madeCount;
  }

  /** Returns the plan for a question and counts one more answer drawn from it. */
  plan(question: QueryQuestion, catalog: DnsCatalog): CachedPlan<P> {
    const key = planKey(catalog.view.index, question);
    return this.find(key, catalog) ?? this.make(key, question, catalog);
  }

  /** Builds the plan for a question, for one answer, if `find` found none under its key. */
  make(key: string, question: QueryQuestion, catalog: DnsCatalog): CachedPlan<P> {
    return use(this.#make(question, { key, catalog, endingOf: (next) => this.#ending(next, catalog) }), catalog);
  }

  /**
   * HOT: runs per question. Returns the valid plan cached under a key (`planKey`) and counts one more answer drawn from it. Returns undefined when
   * there is none.
   */
  find(key: string, catalog: DnsCatalog): CachedPlan<P> | undefined {
    this.#catchUp(catalog);
    const kept = this.#find(key, catalog);
    if (kept === undefined) return undefined;
    kept.isUsed = true;
    return use(kept, catalog);
  }

  /** Replaces a cached plan by its prepared form, if the plan is still cached and there is room. */
  prepare(plan: CachedPlan<P>, prepared: P): void {
    // All cached plans were created by this cache.
    const kept = plan as PooledPlan<P>; // oxlint-disable-line typescript/no-unsafe-type-assertion
    for (const pool of [this.#shown, this.#negative]) if (pool.find(kept.key) === kept) pool.prepare(kept, prepared);
  }

  #catchUp({ changes }: DnsCatalog): void {
    changes.catchUp();
    // A key change also invalidates answers that contain the key records themselves, even unsigned ones.
    const keysVersion = this.#options.signer?.version;
    if (changes === this.#changes && !this.#shown.facts.isUnknown && keysVersion === this.#keysVersion) return;
    this.#keysVersion = keysVersion;
    for (const pool of [this.#shown, this.#negative]) {
      pool.clear();
      pool.facts.isUnknown = false;
      if (changes !== this.#changes) changes.follow(pool.facts);
    }
    this.#changes = changes;
  }

  #find(key: string, catalog: DnsCatalog): PooledPlan<P> | undefined {
    const shown = this.#shown.find(key);
    const kept = shown ?? this.#negative.find(key);
    if (kept === undefined) return undefined;
    const pool = shown === undefined ? this.#negative : this.#shown;
    const isFresh = kept.signed === undefined || this.#options.signer?.isFresh(kept.signed.sinceMs) === true;
    if (isFresh && kept.sample.answersLeft > 0 && holds(kept, pool.facts, catalog)) return kept;
    pool.drop(key);
    return undefined;
  }

  /**
   * Returns the plan of a canonical name, which is built once and shared by all of its aliases. Returns undefined when the plan itself starts with a
   * CNAME.
   */
  #ending(question: QueryQuestion, catalog: DnsCatalog): (PooledPlan<P> & { readonly plan: AnswerPlan }) | undefined {
    const key = planKey(catalog.view.index, question);
    const found = this.#find(key, catalog);
    // A prepared plan no longer has its records. The plan that replaces it keeps its records for as long as it is cached.
    const own = { key, catalog, isEnding: true, endingOf: (next: QueryQuestion) => this.#denial(next, catalog) };
    const kept = found !== undefined && hasPlan(found) ? found : this.#make(question, own);
    kept.isShared = true;
    return kept.plan.groups[0]?.[0]?.type === "CNAME" ? undefined : kept;
  }

  /** Returns the plan of a denial, which is shared by all questions for its name. */
  #denial(question: QueryQuestion, catalog: DnsCatalog): ReturnType<PlanTask<P>["endingOf"]> {
    return question.type === RECORDS.NSEC.code ? this.#ending(question, catalog) : undefined;
  }

  /**
   * Returns whether a question with a negative answer was already received recently. HOT: runs per nonexistent name. When the pool is full, a
   * negative plan is cached only when its question is received a second time. Caching costs more than building, and most nonexistent names are never
   * queried again (the doorkeeper of TinyLFU, Einziger, Friedman and Manes, 2017, 3.4.2).
   */
  #isAskedAgain(key: string): boolean {
    const { place, hash } = tableSlot(key, ASKED);
    const isAgain = this.#asked[place] === hash;
    this.#asked[place] = hash;
    return isAgain;
  }

  #signed(plan: AnswerPlan, type: number, isSample: boolean): AnswerPlan {
    const { signer, settings } = this.#options;
    return signer === undefined ? plan : signer.sign(isSample ? { ...plan, isCut: true } : plan, type, settings);
  }

  #make(asked: QueryQuestion, { key, catalog, endingOf, isEnding = false }: PlanTask<P>): PooledPlan<P> & { readonly plan: AnswerPlan } {
    const { settings, random, planBytes: maxBytes } = this.#options;
    const isSigned = asked.isSigned === true && zoneOf(asked.name, [...settings.zones, ...settings.reverseZones]) !== undefined;
    const question = isSigned === asked.isSigned ? asked : { ...asked, isSigned };
    this.#madeCount += 1;
    const noted = new PlanNotes(catalog);
    let ending: ReturnType<PlanTask<P>["endingOf"]>;
    let plan = planAnswer(question, catalog, settings, (next) => {
      // These values are read before the shared plan is built, because that plan records its own dependencies.
      noted.take();
      ending = endingOf(next);
      return ending?.plan;
    });
    noted.take();
    if (plan.isContested === true) this.#contestedCount += 1;
    if (ending !== undefined) noted.join(ending);
    if (isSigned) plan = this.#signed(plan, question.type, noted.isSample);
    // A plan without catalog dependencies answers a name that any client can make up, such as an address name. Such a plan is treated as a negative
    // plan.
    let facts = plan.groups.every(isDenial) ? undefined : noted.facts();
    const isNegative = facts === undefined || facts.size === 0;
    const { hidden, followed } = noted;
    if (isNegative && !isEnding && this.#negative.isFull && !this.#isAskedAgain(key)) {
      this.#negative.droppedCount += 1;
      return { ...UNKEPT, key, plan, signed: plan.signed, hidden, viewVersion: catalog.version };
    }
    facts ??= noted.facts();
    const otherBytes = keptBytes([key, ...hidden, ...followed, ...noted.told.flatMap(keysOf)], facts.size);
    const dependencyBytes = Math.min(sizeOfDependencies(facts), maxBytes / LEAST_FACTS);
    let bytes = planBytes(plan);
    const isPart = (otherBytes + dependencyBytes + bytes) * LEAST_PLANS > maxBytes;
    if (isPart) {
      const part = thinned(plan, random, Math.floor(maxBytes / LEAST_PLANS) - otherBytes - dependencyBytes);
      plan = cutOff(part, question, catalog.view);
      bytes = planBytes(plan);
    }
    const shared = ending?.sample ?? ANY_NUMBER;
    const answersLeft = noted.isSample ? ANSWERS_PER_SAMPLE : isPart ? ANSWERS_PER_PART : Infinity;
    const pool = isNegative ? this.#negative : this.#shown;
    const made = {
      key,
      plan,
      signed: plan.signed,
      prepared: undefined,
      hidden,
      sample: shared.answersLeft === Infinity && answersLeft < Infinity ? { answersLeft } : shared,
      sizeBytes: otherBytes + bytes,
      isShared: shared.answersLeft < Infinity || answersLeft < Infinity,
      isUsed: false,
      facts: pool.facts.take(facts, maxBytes / LEAST_FACTS),
      seenVersion: pool.facts.version,
      viewVersion: catalog.version,
      over: noted.over(settings.maxTtlMs),
      told: noted.told.length === 0 ? NOTHING_TOLD : noted.told,
      followed,
    };
    pool.keep(made);
    return made;
  }
}

/** The remaining fields of a plan that is not cached. */
const UNKEPT = {
  prepared: undefined,
  sample: ANY_NUMBER,
  sizeBytes: 0,
  isShared: false,
  isUsed: false,
  facts: [],
  seenVersion: 0,
  over: undefined,
  told: NOTHING_TOLD,
  followed: NOTHING,
};

interface PlanTask<P extends PreparedAnswer> {
  readonly key: string;
  readonly catalog: DnsCatalog;
  /** Whether other plans end in this plan and therefore inherit its dependencies. */
  readonly isEnding?: boolean;
  readonly endingOf: (question: QueryQuestion) => (PooledPlan<P> & { readonly plan: AnswerPlan }) | undefined;
}

/** The dependencies and observations collected while a plan is built. */
class PlanNotes {
  isSample = false;
  readonly told: RemoteDependencies[] = [];
  readonly #hidden: string[] = [];
  readonly #followed: string[] = [];
  readonly #facts: Iterable<string>[] = [];
  readonly #catalog: DnsCatalog;
  #ends: Time | undefined;
  /** When the shared plan in which this plan ends expires. */
  #over: Time | undefined;

  /** Discards data recorded for a plan that could not be built. */
  constructor(catalog: DnsCatalog) {
    this.#catalog = catalog;
    catalog.takePlanDependencies();
    catalog.takeHidden();
    catalog.takeSampled();
  }

  take(): void {
    const { keys: facts, followed, remote: told, ends } = this.#catalog.takePlanDependencies();
    this.#ends = earlier(this.#ends, ends);
    this.#facts.push(facts);
    this.#followed.push(...followed);
    this.#hidden.push(...this.#catalog.takeHidden());
    if (told !== undefined) this.told.push(told);
    if (this.#catalog.takeSampled()) this.isSample = true;
  }

  /** Adds the dependencies of the shared plan in which the plan of an alias ends. */
  join({
    facts,
    followed,
    told,
    hidden,
    over,
  }: Pick<PooledPlan<PreparedAnswer>, "followed" | "hidden" | "over" | "told"> & { readonly facts: readonly PlanDependency[] }): void {
    this.#facts.push(facts.map(({ key }) => key));
    this.#followed.push(...followed);
    this.#hidden.push(...hidden);
    this.told.push(...told);
    this.#over = earlier(this.#over, over);
  }

  /**
   * Returns when the plan expires. No record can have a TTL beyond the expiry of its data. A TTL limited by that expiry changes every second, so the
   * plan then expires every second.
   */
  over(maxTtlMs: number): Time | undefined {
    const [ends, now] = [this.#ends, this.#catalog.now?.()];
    if (ends === undefined || now === undefined) return this.#over;
    const of = (end: number, at: number) => (end - at > maxTtlMs ? end - maxTtlMs : at + Math.max(1, (end - at) % 1000));
    return earlier(this.#over, { monoMs: of(ends.monoMs, now.monoMs), wallMs: of(ends.wallMs, now.wallMs) });
  }

  /** Distinct values, as in `followed`. */
  get hidden(): readonly string[] {
    return distinct(this.#hidden);
  }

  get followed(): readonly string[] {
    return distinct(this.#followed);
  }

  /** Builds the keys of the dependencies. HOT: not called for nonexistent names whose plans are not cached. */
  facts(): ReadonlySet<string> {
    const facts = new Set<string>();
    for (const some of this.#facts) for (const fact of some) facts.add(fact);
    return facts;
  }
}

function holds(kept: PooledPlan<PreparedAnswer>, { version: indexVersion }: DependencyIndex, catalog: DnsCatalog): boolean {
  const { version, remoteLookup } = catalog;
  if (kept.viewVersion !== version || isOver(kept.over, catalog)) return false;
  if (kept.seenVersion !== indexVersion) {
    for (const fact of kept.facts) if (fact.isOver) return false;
    kept.seenVersion = indexVersion;
  }
  if (remoteLookup === undefined) return true;
  for (const told of kept.told) if (!remoteLookup.isCurrent(told)) return false;
  return kept.followed.every((namespace) => remoteLookup.isFollowed(namespace));
}

function isOver(over: Time | undefined, { now }: DnsCatalog): boolean {
  if (over === undefined || now === undefined) return false;
  const { monoMs, wallMs } = now();
  return monoMs >= over.monoMs || wallMs >= over.wallMs;
}

function hasPlan<P extends PreparedAnswer>(kept: PooledPlan<P>): kept is PooledPlan<P> & { plan: AnswerPlan } {
  return kept.plan !== undefined;
}

/** Returns the keys of the lookups. Each lookup needs about as much memory in the plan as the length of its key. */
function keysOf({ names, aliasOwners }: RemoteDependencies): readonly string[] {
  return [...names.map(([{ namespace, name }]) => `${namespace} ${name}`), ...aliasOwners.map(([key]) => key)];
}

/** Returns whether these records consist only of a denial. Any client can make up names that have such an answer. */
function isDenial([first]: AnswerPlan["groups"][number]): boolean {
  return first?.type === "NSEC" || first?.type === "RRSIG";
}

function use<P extends PreparedAnswer>(kept: PooledPlan<P>, catalog: DnsCatalog): CachedPlan<P> {
  kept.sample.answersLeft -= 1;
  if (kept.hidden.length > 0) catalog.onHidden(kept.hidden);
  return kept;
}

function distinct(texts: readonly string[]): readonly string[] {
  return texts.length === 0 ? NOTHING : [...new Set(texts)];
}

// The cache key of a plan consists of the question in lower-case wire format and the view. The hot path builds the same key from the bytes of a
// packet.

/**
 * Returns one character for each byte of the question (name, type, class), one for the view index, and one more if the answer is signed. A name in
 * wire format needs no escaping, so the responder builds the key from the packet, as the lower-case `latin1Slice` of its question.
 */
function planKey(viewIndex: number, { name, type, class: dnsClass, isSigned }: QueryQuestion): string {
  const view = String.fromCharCode(viewIndex) + (isSigned === true ? SIGNED : "");
  const text = wireText(name) + twoBytes(type) + twoBytes(dnsClass) + view;
  // The copy prevents V8 from retaining the strings that were concatenated.
  return Buffer.from(text, "latin1").toString("latin1");
}

const SIGNED = "\u0001";

function wireText(name: string): string {
  if (name === "") return "\0";
  let text = "";
  for (const label of name.split(".")) {
    const bytes = label.includes("\\") ? label.replaceAll(/\\(\d{3})/g, (_, code: string) => String.fromCharCode(Number(code))) : label;
    text += String.fromCharCode(bytes.length) + bytes;
  }
  return `${text}\0`;
}

function twoBytes(value: number): string {
  return String.fromCharCode(value >> 8, value & 0xff);
}

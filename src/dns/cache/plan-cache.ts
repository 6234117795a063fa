/** Caches plans by view and question, bounded in number and memory. A plan becomes invalid only when one of its dependencies changes (semantics.md, DNS). */
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
  /** Returns numbers in [0, 1), to draw a part of a plan that is too large to cache. */
  readonly random: () => number;
  /** Memory limit in bytes. It applies to positive and to negative plans separately. At the limit, plans that were not used recently are evicted first. */
  readonly planBytes: number;
  /** Maximum number of negative plans; `MAX_NEGATIVE_DNS_PLANS` by default. */
  readonly maxNegativePlans?: number | undefined;
  /** Signs the plans of questions that request DNSSEC records. Absent: zones are not signed. */
  readonly signer?: ZoneSigner | undefined;
}

/** A cached plan, with the data needed to answer from it again. */
export interface CachedPlan<P extends PreparedAnswer = PreparedAnswer> {
  /** Undefined after the plan is prepared, unless other plans are built from it. */
  readonly plan: AnswerPlan | undefined;
  /** Set by `PlanCache.prepare`. Undefined until the encoder has prepared it, or if the cache has no room for it. */
  readonly prepared: P | undefined;
  readonly signed: AnswerPlan["signed"];
}

/**
 * Number of answers drawn from one sample of a name with many entries. A plan costs as much as about a hundred answers, and a sample has about forty entries.
 */
const ANSWERS_PER_SAMPLE = 16;
/** Number of answers drawn from one part of a plan that is too large to cache. Building such a plan creates megabytes of text in about 0.1 s. */
const ANSWERS_PER_PART = 256;
/** The dependencies of one plan can use at most this fraction (1/16) of the memory limit. If they need more, the plan depends on every change instead. */
const LEAST_FACTS = 16;
/** The sample counter of a plan from which any number of answers can be drawn. */
const ANY_NUMBER = { answersLeft: Infinity };
const NOTHING: readonly string[] = [];
/** Number of slots for hashes of recent questions with negative answers. */
const ASKED = 4096;
const NOTHING_TOLD: readonly RemoteDependencies[] = [];

export class PlanCache<P extends PreparedAnswer = PreparedAnswer> {
  readonly #options: PlanCacheOptions;
  /** Positive plans. */
  readonly #shown: PlanPool<P>;
  /** Negative plans. Clients can cause any number of them with random names, so they only displace each other. */
  readonly #negative: PlanPool<P>;
  /** The source of change notifications for the dependencies. */
  #changes: DnsCatalog["changes"] | undefined;
  #keysVersion: number | undefined;
  /** Hashes of questions with negative answers, each in the slot that its hash selects. */
  readonly #asked = new Int32Array(ASKED);
  #madeCount = 0;
  #contestedCount = 0;

  constructor(options: PlanCacheOptions) {
    const { maxNegativePlans = MAX_NEGATIVE_DNS_PLANS, planBytes: maxBytes } = options;
    this.#options = options;
    this.#shown = new PlanPool({ maxPlans: Infinity, maxBytes });
    this.#negative = new PlanPool({ maxPlans: maxNegativePlans, maxBytes });
  }

  /** Memory of the cached plans, rounded up: at most `planBytes` for positive plans, and as much for negative ones. */
  get sizeBytes(): number {
    return this.#shown.sizeBytes + this.#negative.sizeBytes;
  }

  /** Number of plans that were evicted to make room, or did not fit. */
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

  /** Returns the plan of a question, for one more answer. */
  plan(question: QueryQuestion, catalog: DnsCatalog): CachedPlan<P> {
    const key = planKey(catalog.view.index, question);
    return this.find(key, catalog) ?? this.make(key, question, catalog);
  }

  /** Builds the plan of a question, for one answer, after `find` found none under its key. */
  make(key: string, question: QueryQuestion, catalog: DnsCatalog): CachedPlan<P> {
    return use(this.#make(question, { key, catalog, endingOf: (next) => this.#ending(next, catalog) }), catalog);
  }

  /** HOT: runs per question. Returns the valid plan cached under a key (`planKey`), for one more answer. Undefined when there is none. */
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
    // After a key change, the answers for the key records themselves are invalid too, and they need no signature.
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

  /** Returns the plan that all aliases of a name end in, built once and shared. Undefined when it starts with a CNAME itself. */
  #ending(question: QueryQuestion, catalog: DnsCatalog): (PooledPlan<P> & { readonly plan: AnswerPlan }) | undefined {
    const key = planKey(catalog.view.index, question);
    const found = this.#find(key, catalog);
    // A prepared plan has lost its records. Its replacement keeps them for as long as it is cached.
    const own = { key, catalog, isEnding: true, endingOf: (next: QueryQuestion) => this.#denial(next, catalog) };
    const kept = found !== undefined && hasPlan(found) ? found : this.#make(question, own);
    kept.isShared = true;
    return kept.plan.groups[0]?.[0]?.type === "CNAME" ? undefined : kept;
  }

  /** Returns the plan of a denial, which all questions for its name share. */
  #denial(question: QueryQuestion, catalog: DnsCatalog): ReturnType<PlanTask<P>["endingOf"]> {
    return question.type === RECORDS.NSEC.code ? this.#ending(question, catalog) : undefined;
  }

  /**
   * Returns whether the same question, which has a negative answer, was asked recently. HOT: runs per made-up name. When the pool is full, such a plan is
   * cached only from its second question on: caching costs more than building it, and most such names are never asked for again (the doorkeeper of TinyLFU,
   * Einziger, Friedman and Manes, 2017, 3.4.2).
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
      // Read before the shared plan is built, because that plan records its own dependencies.
      noted.take();
      ending = endingOf(next);
      return ending?.plan;
    });
    noted.take();
    if (plan.isContested === true) this.#contestedCount += 1;
    if (ending !== undefined) noted.join(ending);
    if (isSigned) plan = this.#signed(plan, question.type, noted.isSample);
    // A plan without catalog dependencies answers a name that any client can make up, such as the name of an address. It is treated as a negative plan.
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
  /** Whether other plans end in this one, and so inherit its dependencies. */
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
  /** The expiry of the shared plan in which this one ends. */
  #over: Time | undefined;

  /** Discards data recorded for a plan that failed. */
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
   * Returns when the plan expires. No record can have a TTL beyond the expiry of its data. While the TTL is limited by that expiry, it changes every second,
   * and the plan expires each time.
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

  /** Builds the keys of the dependencies. HOT: not called for made-up names whose plans are not cached. */
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

/** Returns the keys of the lookups. The memory that a plan needs for each is about the length of this text. */
function keysOf({ names, aliasOwners }: RemoteDependencies): readonly string[] {
  return [...names.map(([{ namespace, name }]) => `${namespace} ${name}`), ...aliasOwners.map(([key]) => key)];
}

/** Returns whether these records are only a denial. Any client can make up names with such an answer. */
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

// The cache key of a plan: the question in wire format, in lower case, and the view. The hot path builds the same key from the bytes of a packet.

/**
 * Returns one character for each byte of the question (name, type, class), one for the index of the view, and one more if the answer is signed. A name in wire
 * format needs no escapes, so the responder builds the key from the packet: `latin1Slice` of its question, with letters in lower case.
 */
function planKey(viewIndex: number, { name, type, class: dnsClass, isSigned }: QueryQuestion): string {
  const view = String.fromCharCode(viewIndex) + (isSigned === true ? SIGNED : "");
  const text = wireText(name) + twoBytes(type) + twoBytes(dnsClass) + view;
  // The copy stops V8 from keeping the strings that the text was concatenated from.
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

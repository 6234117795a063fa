/**
 * Keeps plans by view and question, within bounds on their number and their memory. A plan is over when something changes on which it rests, and for no other reason
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
  /** Gives numbers in [0, 1), to draw a part of a plan that is too large as a whole. */
  readonly random: () => number;
  /** Memory of the plans that show something. At this bound, and at the next, those that were not used for longest go. */
  readonly planBytes: number;
  /** Plans that show nothing; `MAX_NEGATIVE_DNS_PLANS` unless set. */
  readonly maxNegativePlans?: number | undefined;
  /** Signs the plans of questions that want it. Absent: nobody may want it. */
  readonly signer?: ZoneSigner | undefined;
}

/** A plan with what it takes to answer from it once more. */
export interface CachedPlan<P extends PreparedAnswer = PreparedAnswer> {
  /** Undefined once it is prepared, unless others are made from it. */
  readonly plan: AnswerPlan | undefined;
  /** Set by `PlanCache.prepare`. Undefined until the encoder has prepared it, and where there is no room. */
  readonly prepared: P | undefined;
  readonly signed: AnswerPlan["signed"];
}

/** Answers from one sample of a crowded name. A plan costs as much as some hundred answers from it, and a sample has some forty entries. */
const ANSWERS_PER_SAMPLE = 16;
/** Answers from one part of a plan that is too large to be kept. Such a plan is megabytes of text, and takes a tenth of a second to make. */
const ANSWERS_PER_PART = 256;
/** The facts of one plan may take this part of the bytes. Beyond it the plan rests on everything. */
const LEAST_FACTS = 16;
/** Of a plan from which any number of answers may be drawn. */
const ANY_NUMBER = { answersLeft: Infinity };
const NOTHING: readonly string[] = [];
/** What is kept of the last questions that nothing is shown for: so many hashes of keys. */
const ASKED = 4096;
const NOTHING_TOLD: readonly RemoteDependencies[] = [];

export class PlanCache<P extends PreparedAnswer = PreparedAnswer> {
  readonly #options: PlanCacheOptions;
  /** Plans that show something. */
  readonly #shown: PlanPool<P>;
  /** Plans that show nothing. Strangers make as many as they like of them, so they make room only for each other. */
  readonly #negative: PlanPool<P>;
  /** What tells the facts of changes. */
  #changes: DnsCatalog["changes"] | undefined;
  #keysVersion: number | undefined;
  /** Hashes of questions that show nothing, each in the place that it gives. */
  readonly #asked = new Int32Array(ASKED);
  #madeCount = 0;
  #contestedCount = 0;

  constructor(options: PlanCacheOptions) {
    const { maxNegativePlans = MAX_NEGATIVE_DNS_PLANS, planBytes: maxBytes } = options;
    this.#options = options;
    this.#shown = new PlanPool({ maxPlans: Infinity, maxBytes });
    this.#negative = new PlanPool({ maxPlans: maxNegativePlans, maxBytes });
  }

  /** Memory of the plans kept: at most `planBytes` of those that show something, and as much of the others. Rather too many than too few bytes. */
  get sizeBytes(): number {
    return this.#shown.sizeBytes + this.#negative.sizeBytes;
  }

  /** How many plans were dropped to make room for others, or found no room, so far. */
  get droppedCount(): number {
    return this.#shown.droppedCount + this.#negative.droppedCount;
  }

  /** How many plans were made for an alias that several services have. */
  get contestedCount(): number {
    return this.#contestedCount;
  }

  /** How many plans were made so far. */
  get madeCount(): number {
    return this.#madeCount;
  }

  /** The plan of a question, for one more answer. */
  plan(question: QueryQuestion, catalog: DnsCatalog): CachedPlan<P> {
    const key = planKey(catalog.view.index, question);
    return this.find(key, catalog) ?? this.make(key, question, catalog);
  }

  /** The plan of a question, for one answer, where `find` has just found none under its key. */
  make(key: string, question: QueryQuestion, catalog: DnsCatalog): CachedPlan<P> {
    return use(this.#make(question, { key, catalog, endingOf: (next) => this.#ending(next, catalog) }), catalog);
  }

  /** HOT: once a question. The plan that is kept under a key (`planKey`), for one more answer; undefined if none is, or it is over. */
  find(key: string, catalog: DnsCatalog): CachedPlan<P> | undefined {
    this.#catchUp(catalog);
    const kept = this.#find(key, catalog);
    if (kept === undefined) return undefined;
    kept.isUsed = true;
    return use(kept, catalog);
  }

  /** Keeps what the encoder prepared instead of the plan, if the plan is kept and there is room. */
  prepare(plan: CachedPlan<P>, prepared: P): void {
    // Only this cache makes kept plans.
    const kept = plan as PooledPlan<P>; // oxlint-disable-line typescript/no-unsafe-type-assertion
    for (const pool of [this.#shown, this.#negative]) if (pool.find(kept.key) === kept) pool.prepare(kept, prepared);
  }

  #catchUp({ changes }: DnsCatalog): void {
    changes.catchUp();
    // The answers about the keys are over too, which need no signature.
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

  /** The plan that those of all aliases of a name end in, made once and shared. Undefined when it begins with a CNAME itself. */
  #ending(question: QueryQuestion, catalog: DnsCatalog): (PooledPlan<P> & { readonly plan: AnswerPlan }) | undefined {
    const key = planKey(catalog.view.index, question);
    const found = this.#find(key, catalog);
    // Of one that was prepared the records are gone. The next has them for as long as it is kept.
    const own = { key, catalog, isEnding: true, endingOf: (next: QueryQuestion) => this.#denial(next, catalog) };
    const kept = found !== undefined && hasPlan(found) ? found : this.#make(question, own);
    kept.isShared = true;
    return kept.plan.groups[0]?.[0]?.type === "CNAME" ? undefined : kept;
  }

  /** The plan of a denial, which all questions for its name share. */
  #denial(question: QueryQuestion, catalog: DnsCatalog): ReturnType<PlanTask<P>["endingOf"]> {
    return question.type === RECORDS.NSEC.code ? this.#ending(question, catalog) : undefined;
  }

  /**
   * Whether a question that shows nothing was asked before, not long ago. HOT: once for each name that somebody makes up. Where others would have to make room for its plan, it is
   * kept from its second question on: keeping costs more than making it, and most such names are never asked for again (the doorkeeper of TinyLFU, Einziger, Friedman and Manes, 2017, 3.4.2).
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
      // Taken before the ending is planned, which has notes of its own.
      noted.take();
      ending = endingOf(next);
      return ending?.plan;
    });
    noted.take();
    if (plan.isContested === true) this.#contestedCount += 1;
    if (ending !== undefined) noted.join(ending);
    if (isSigned) plan = this.#signed(plan, question.type, noted.isSample);
    // What rests on nothing of the catalog is a name that anybody can make up, such as that of an address.
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

/** Of a plan that is not kept. */
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
  /** Whether other plans end in it, which rest on what it rests on. */
  readonly isEnding?: boolean;
  readonly endingOf: (question: QueryQuestion) => (PooledPlan<P> & { readonly plan: AnswerPlan }) | undefined;
}

/** What was noticed while a plan was made. */
class PlanNotes {
  isSample = false;
  readonly told: RemoteDependencies[] = [];
  readonly #hidden: string[] = [];
  readonly #followed: string[] = [];
  readonly #facts: Iterable<string>[] = [];
  readonly #catalog: DnsCatalog;
  #ends: Time | undefined;
  /** That of the plan in which this one ends. */
  #over: Time | undefined;

  /** What was noted for a plan that could not be made is forgotten. */
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

  /** The plan of an alias rests on all that the plan rests on in which it ends. */
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

  /** When the plan is over, because a record may be kept for no longer than to the end of what it tells. Each second before the end has another TTL. */
  over(maxTtlMs: number): Time | undefined {
    const [ends, now] = [this.#ends, this.#catalog.now?.()];
    if (ends === undefined || now === undefined) return this.#over;
    const of = (end: number, at: number) => (end - at > maxTtlMs ? end - maxTtlMs : at + Math.max(1, (end - at) % 1000));
    return earlier(this.#over, { monoMs: of(ends.monoMs, now.monoMs), wallMs: of(ends.wallMs, now.wallMs) });
  }

  /** Each once, as the next. */
  get hidden(): readonly string[] {
    return distinct(this.#hidden);
  }

  get followed(): readonly string[] {
    return distinct(this.#followed);
  }

  /** Makes them. HOT: not for names that somebody makes up, of which no plan is kept. */
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

/** What a plan keeps of a name that it was told takes about as much as its text. */
function keysOf({ names, aliasOwners }: RemoteDependencies): readonly string[] {
  return [...names.map(([{ namespace, name }]) => `${namespace} ${name}`), ...aliasOwners.map(([key]) => key)];
}

/** Whether these records only say what is not there: anybody can make up such a name. */
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

// The text by which a plan is kept: the question as it is on the wire, in lower case, and the view. The hot path makes the same text from a packet's bytes.

/**
 * One character for each byte of the question (name, type, class), one for the number of the view, and one more if the answer is signed. A name on the wire needs no escapes, so the responder
 * takes these characters from the packet: `latin1Slice` of its question, letters in lower case.
 */
function planKey(viewIndex: number, { name, type, class: dnsClass, isSigned }: QueryQuestion): string {
  const view = String.fromCharCode(viewIndex) + (isSigned === true ? SIGNED : "");
  const text = wireText(name) + twoBytes(type) + twoBytes(dnsClass) + view;
  // V8 would keep each of the parts that it was put together from.
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

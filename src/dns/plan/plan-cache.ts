/**
 * Keeps plans by view and question, within bounds on their number and their memory. A plan is over when something changes on which it rests, and for no other reason
 * (semantics.md, DNS).
 */
import { MAX_NEGATIVE_DNS_PLANS } from "../../lib/bounds.ts";
import { zoneOf } from "../names/names.ts";
import type { DnsSettings } from "../records/record.ts";
import type { ZoneSigner } from "../signing/zone-signer.ts";
import { type Plan, planAnswer, type Question } from "./answer.ts";
import { type Fact, Facts, factBytes } from "./facts.ts";
import { planKey } from "./plan-key.ts";
import { type Kept, LEAST_PLANS, PlanPool, type PreparedAnswer } from "./plan-pool.ts";
import { bytesOfTexts, planBytes, thinned } from "./plan-size.ts";
import type { DnsCatalog } from "./subject.ts";

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
export interface KeptPlan<P extends PreparedAnswer = PreparedAnswer> {
  readonly plan: Plan;
  /** Set by `PlanCache.prepare`. Undefined until the encoder has prepared it, and where it is not to be prepared. */
  readonly prepared: P | undefined;
}

/** Answers from one sample of a crowded name. A plan costs as much as some hundred answers from it, and a sample has some forty entries. */
const ANSWERS_PER_SAMPLE = 16;
/** Answers from one part of a plan that is too large to be kept. Such a plan is megabytes of text, and takes a tenth of a second to make. */
const ANSWERS_PER_PART = 256;
/** The facts of one plan may take this part of the bytes. Beyond it the plan rests on everything. */
const LEAST_FACTS = 16;
const NOTHING: readonly string[] = [];

export class PlanCache<P extends PreparedAnswer = PreparedAnswer> {
  readonly #options: PlanCacheOptions;
  readonly #facts = new Facts();
  /** Plans that show something. */
  readonly #shown: PlanPool<P>;
  /** Plans that show nothing. Strangers make as many as they like of them, so they make room only for each other. */
  readonly #negative: PlanPool<P>;
  /** What tells the facts of changes. */
  #changes: DnsCatalog["changes"] | undefined;
  #keysTurn: number | undefined;
  #madeCount = 0;
  #contestedCount = 0;

  constructor(options: PlanCacheOptions) {
    const { maxNegativePlans = MAX_NEGATIVE_DNS_PLANS, planBytes: maxBytes } = options;
    this.#options = options;
    const release = ({ facts }: Kept<P>) => this.#facts.release(facts);
    this.#shown = new PlanPool({ maxPlans: Infinity, maxBytes }, release);
    this.#negative = new PlanPool({ maxPlans: maxNegativePlans, maxBytes }, release);
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
  plan(question: Question, catalog: DnsCatalog): KeptPlan<P> {
    const key = planKey(catalog.view.index, question);
    const found = this.find(key, catalog);
    return found ?? use(this.#make(question, { key, catalog, endingOf: (next) => this.#ending(next, catalog) }), catalog);
  }

  /** HOT: once a question. The plan that is kept under a key (`planKey`), for one more answer; undefined if none is, or it is over. */
  find(key: string, catalog: DnsCatalog): KeptPlan<P> | undefined {
    this.#catchUp(catalog);
    const kept = this.#find(key, catalog);
    if (kept === undefined) return undefined;
    kept.isUsed = true;
    return use(kept, catalog);
  }

  /** Keeps what the encoder prepared, if the plan is kept and there is room. Undefined takes it away. */
  prepare(plan: KeptPlan<P>, prepared: P | undefined): void {
    // Only this cache makes kept plans.
    const kept = plan as Kept<P>; // oxlint-disable-line typescript/no-unsafe-type-assertion
    for (const pool of [this.#shown, this.#negative]) if (pool.find(kept.key) === kept) pool.prepare(kept, prepared);
  }

  #catchUp({ changes }: DnsCatalog): void {
    changes.catchUp();
    // The answers about the keys are over too, which need no signature.
    const keysTurn = this.#options.signer?.turn;
    if (changes === this.#changes && !this.#facts.isUnknown && keysTurn === this.#keysTurn) return;
    this.#keysTurn = keysTurn;
    this.#shown.clear();
    this.#negative.clear();
    this.#facts.isUnknown = false;
    if (changes === this.#changes) return;
    this.#changes = changes;
    changes.follow(this.#facts);
  }

  #find(key: string, catalog: DnsCatalog): Kept<P> | undefined {
    const shown = this.#shown.find(key);
    const kept = shown ?? this.#negative.find(key);
    if (kept === undefined) return undefined;
    if (kept.sample.answersLeft > 0 && this.#holds(kept, catalog)) return kept;
    (shown === undefined ? this.#negative : this.#shown).drop(key);
    return undefined;
  }

  #holds(kept: Kept<P>, { turn, elsewhere }: DnsCatalog): boolean {
    if (kept.viewTurn !== turn) return false;
    const { signed } = kept.plan;
    if (signed !== undefined && this.#options.signer?.isFresh(signed.sinceMs) !== true) return false;
    if (kept.seenTurn !== this.#facts.turn) {
      for (const fact of kept.facts) if (fact.isOver) return false;
      kept.seenTurn = this.#facts.turn;
    }
    if (elsewhere === undefined) return true;
    if (kept.askedTurn !== undefined && kept.askedTurn !== elsewhere.turn) return false;
    return kept.followed.every((namespace) => elsewhere.isFollowed(namespace));
  }

  /** The plan that those of all aliases of a name end in, made once and shared. Undefined when it begins with a CNAME itself. */
  #ending(question: Question, catalog: DnsCatalog): Kept<P> | undefined {
    const key = planKey(catalog.view.index, question);
    const kept = this.#find(key, catalog) ?? this.#make(question, { key, catalog, endingOf: () => undefined });
    return kept.plan.groups[0]?.[0]?.type === "CNAME" ? undefined : kept;
  }

  #signed(plan: Plan, type: number, isSample: boolean): Plan {
    const { signer, settings } = this.#options;
    return signer === undefined ? plan : signer.sign(isSample ? { ...plan, isCut: true } : plan, type, settings);
  }

  #make(asked: Question, { key, catalog, endingOf }: Making<P>): Kept<P> {
    const { settings, random, planBytes: maxBytes } = this.#options;
    const isSigned = asked.isSigned === true && zoneOf(asked.name, [...settings.zones, ...settings.reverseZones]) !== undefined;
    const question = { ...asked, isSigned };
    this.#madeCount += 1;
    const noted = new Noted(catalog);
    let ending: Kept<P> | undefined;
    let plan = planAnswer(question, isSigned ? (catalog.whole ?? catalog) : catalog, settings, (next) => {
      // Taken before the ending is planned, which has notes of its own.
      noted.take();
      ending = endingOf(next);
      return ending?.plan;
    });
    noted.take();
    if (plan.isContested === true) this.#contestedCount += 1;
    if (ending !== undefined) noted.join(ending);
    if (isSigned) plan = this.#signed(plan, question.type, noted.isSample);
    const { hidden } = noted;
    const otherBytes = bytesOfTexts([key, ...hidden, ...noted.followed]) + Math.min(factBytes(noted.facts), maxBytes / LEAST_FACTS);
    let sizeBytes = otherBytes + planBytes(plan);
    const isPart = sizeBytes * LEAST_PLANS > maxBytes;
    if (isPart) {
      const part = thinned(plan, random, Math.floor(maxBytes / LEAST_PLANS) - otherBytes);
      // A signature stands for the whole set.
      plan = isSigned ? { ...part, isCut: true } : part;
      sizeBytes = otherBytes + planBytes(plan);
    }
    const shared = ending?.sample ?? { answersLeft: Infinity };
    const answersLeft = noted.isSample ? ANSWERS_PER_SAMPLE : isPart ? ANSWERS_PER_PART : Infinity;
    const made: Kept<P> = {
      key,
      plan,
      prepared: undefined,
      hidden: listOf(hidden),
      sample: shared.answersLeft === Infinity && answersLeft < Infinity ? { answersLeft } : shared,
      sizeBytes,
      isUsed: false,
      facts: this.#facts.take(noted.facts, maxBytes / LEAST_FACTS),
      seenTurn: this.#facts.turn,
      viewTurn: catalog.turn,
      askedTurn: noted.isAsked ? catalog.elsewhere?.turn : undefined,
      followed: listOf(noted.followed),
    };
    // What rests on nothing of the catalog is a name that anybody can make up, such as that of an address.
    (plan.groups.length === 0 || noted.facts.size === 0 ? this.#negative : this.#shown).keep(made);
    return made;
  }
}

interface Making<P extends PreparedAnswer> {
  readonly key: string;
  readonly catalog: DnsCatalog;
  readonly endingOf: (question: Question) => Kept<P> | undefined;
}

/** What was noticed while a plan was made. */
class Noted {
  readonly hidden = new Set<string>();
  readonly facts = new Set<string>();
  readonly followed = new Set<string>();
  isSample = false;
  isAsked = false;
  readonly #catalog: DnsCatalog;

  /** What was noted for a plan that could not be made is forgotten. */
  constructor(catalog: DnsCatalog) {
    this.#catalog = catalog;
    catalog.takeRests();
    catalog.takeHidden();
    catalog.takeSampled();
  }

  take(): void {
    const { facts, followed, isAsked } = this.#catalog.takeRests();
    for (const fact of facts) this.facts.add(fact);
    for (const namespace of followed) this.followed.add(namespace);
    for (const namespace of this.#catalog.takeHidden()) this.hidden.add(namespace);
    if (isAsked) this.isAsked = true;
    if (this.#catalog.takeSampled()) this.isSample = true;
  }

  /** The plan of an alias rests on all that the plan rests on in which it ends. */
  join({
    facts,
    followed,
    askedTurn,
    hidden,
  }: Pick<Kept<PreparedAnswer>, "askedTurn" | "followed" | "hidden"> & { readonly facts: readonly Fact[] }): void {
    for (const { key } of facts) this.facts.add(key);
    for (const namespace of followed) this.followed.add(namespace);
    for (const namespace of hidden) this.hidden.add(namespace);
    if (askedTurn !== undefined) this.isAsked = true;
  }
}

function use<P extends PreparedAnswer>(kept: Kept<P>, catalog: DnsCatalog): KeptPlan<P> {
  kept.sample.answersLeft -= 1;
  if (kept.hidden.length > 0) catalog.onHidden(kept.hidden);
  return kept;
}

function listOf(texts: ReadonlySet<string>): readonly string[] {
  return texts.size === 0 ? NOTHING : [...texts];
}

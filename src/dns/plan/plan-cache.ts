/** Keeps plans by view and question, within bounds on their number and their memory. */
import { MAX_NEGATIVE_DNS_PLANS } from "../../lib/bounds.ts";
import type { DnsSettings } from "../records/record.ts";
import { type Plan, planAnswer, type Question } from "./answer.ts";
import { planKey } from "./plan-key.ts";
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
}

/** What the encoder keeps of a plan, so that it need not make it again. */
export interface PreparedAnswer {
  /** Of memory. */
  readonly sizeBytes: number;
}

/** A plan with what it takes to answer from it once more. */
export interface KeptPlan<P extends PreparedAnswer = PreparedAnswer> {
  readonly plan: Plan;
  /** Set by `PlanCache.prepare`. Undefined until the encoder has prepared it, and where it is not to be prepared. */
  readonly prepared: P | undefined;
  /** Hidden namespaces that the answer leaves out. */
  readonly hidden: readonly string[];
}

/** Answers from one sample of a crowded name. A plan costs as much as some hundred answers from it, and a sample has some forty entries. */
const ANSWERS_PER_SAMPLE = 16;
/** Answers from one part of a plan that is too large to be kept. Such a plan is megabytes of text, and takes a tenth of a second to make. */
const ANSWERS_PER_PART = 256;
/** The bytes have room for at least this many plans: no single plan takes more than an eighth of them. */
const LEAST_PLANS = 8;
const NOTHING_HIDDEN: readonly string[] = [];

interface Kept<P extends PreparedAnswer> extends KeptPlan<P> {
  readonly key: string;
  prepared: P | undefined;
  /** How many more answers may be drawn. The plan of an alias shares it with the name that the alias leads to. */
  readonly sample: { answersLeft: number };
  /** With what is prepared of it. */
  sizeBytes: number;
  /** Whether it was found again since it was last looked at to make room. */
  isUsed: boolean;
}

/** Another catalog, and every change of the catalog, empties the cache: no answer is of another viewer, or older than the catalog. */
export class PlanCache<P extends PreparedAnswer = PreparedAnswer> {
  readonly #options: PlanCacheOptions;
  /** Plans that show something. */
  readonly #shown: PlanPool<P>;
  /** Plans that show nothing. Strangers make as many as they like of them, so they make room only for each other. */
  readonly #negative: PlanPool<P>;
  #catalog: DnsCatalog | undefined;
  #revision = -1;
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
  plan(question: Question, catalog: DnsCatalog): KeptPlan<P> {
    const key = planKey(catalog.view.index, question);
    const found = this.find(key, catalog);
    if (found !== undefined) return found;
    return this.#use(
      this.#make(question, key, catalog, (next) => this.#ending(next, catalog)),
      catalog,
    );
  }

  /** HOT: once a question. The plan that is kept under a key (`planKey`), for one more answer; undefined if none is, or it holds no longer. */
  find(key: string, catalog: DnsCatalog): KeptPlan<P> | undefined {
    this.#refresh(catalog);
    const kept = this.#find(key);
    if (kept === undefined) return undefined;
    kept.isUsed = true;
    return this.#use(kept, catalog);
  }

  /** Keeps what the encoder prepared, if the plan is kept and there is room. Undefined takes it away. */
  prepare(plan: KeptPlan<P>, prepared: P | undefined): void {
    // Only this cache makes kept plans.
    const kept = plan as Kept<P>; // oxlint-disable-line typescript/no-unsafe-type-assertion
    for (const pool of [this.#shown, this.#negative]) if (pool.find(kept.key) === kept) pool.prepare(kept, prepared);
  }

  #refresh(catalog: DnsCatalog): void {
    if (catalog.revision === this.#revision && catalog === this.#catalog) return;
    this.#shown.clear();
    this.#negative.clear();
    this.#catalog = catalog;
    this.#revision = catalog.revision;
  }

  #use(kept: Kept<P>, catalog: DnsCatalog): KeptPlan<P> {
    kept.sample.answersLeft -= 1;
    if (kept.hidden.length > 0) catalog.onHidden(kept.hidden);
    return kept;
  }

  #find(key: string): Kept<P> | undefined {
    const kept = this.#shown.find(key) ?? this.#negative.find(key);
    return kept !== undefined && kept.sample.answersLeft > 0 ? kept : undefined;
  }

  /** The plan that those of all aliases of a name end in, made once and shared. Undefined when it begins with a CNAME itself. */
  #ending(question: Question, catalog: DnsCatalog): Kept<P> | undefined {
    const key = planKey(catalog.view.index, question);
    const kept = this.#find(key) ?? this.#make(question, key, catalog, () => undefined);
    return kept.plan.groups[0]?.[0]?.type === "CNAME" ? undefined : kept;
  }

  #make(question: Question, key: string, catalog: DnsCatalog, endingOf: (question: Question) => Kept<P> | undefined): Kept<P> {
    const { settings, random, planBytes: maxBytes } = this.#options;
    this.#madeCount += 1;
    const hidden = new Set<string>();
    let isSample = false;
    let ending: Kept<P> | undefined;
    const takeNotes = (): void => {
      for (const namespace of catalog.takeHidden()) hidden.add(namespace);
      if (catalog.takeSampled()) isSample = true;
    };
    let plan = planAnswer(question, catalog, settings, (next) => {
      // Taken before the ending is planned, which has notes of its own.
      takeNotes();
      ending = endingOf(next);
      return ending?.plan;
    });
    takeNotes();
    if (plan.isContested === true) this.#contestedCount += 1;
    for (const namespace of ending?.hidden ?? NOTHING_HIDDEN) hidden.add(namespace);
    const otherBytes = bytesOfTexts([key, ...hidden]);
    let sizeBytes = otherBytes + planBytes(plan);
    const isPart = sizeBytes * LEAST_PLANS > maxBytes;
    if (isPart) {
      plan = thinned(plan, random, Math.floor(maxBytes / LEAST_PLANS) - otherBytes);
      sizeBytes = otherBytes + planBytes(plan);
    }
    const shared = ending?.sample ?? { answersLeft: Infinity };
    const answersLeft = isSample ? ANSWERS_PER_SAMPLE : isPart ? ANSWERS_PER_PART : Infinity;
    const sample = shared.answersLeft === Infinity && answersLeft < Infinity ? { answersLeft } : shared;
    const hiddenList = hidden.size === 0 ? NOTHING_HIDDEN : [...hidden];
    const made: Kept<P> = { key, plan, prepared: undefined, hidden: hiddenList, sample, sizeBytes, isUsed: false };
    // A plan under this key had all its answers.
    this.#shown.drop(key);
    this.#negative.drop(key);
    (plan.groups.length === 0 ? this.#negative : this.#shown).keep(made);
    return made;
  }
}

interface PlanPoolBounds {
  readonly maxPlans: number;
  readonly maxBytes: number;
}

/** Plans within bounds of their own. What was found again since it was last looked at stays for another round; of the others the oldest go first. */
class PlanPool<P extends PreparedAnswer> {
  readonly #bounds: PlanPoolBounds;
  readonly #byKey = new Map<string, Kept<P>>();
  sizeBytes = 0;
  droppedCount = 0;

  constructor(bounds: PlanPoolBounds) {
    this.#bounds = bounds;
  }

  find(key: string): Kept<P> | undefined {
    return this.#byKey.get(key);
  }

  keep(made: Kept<P>): void {
    const { maxPlans, maxBytes } = this.#bounds;
    if (made.sizeBytes * LEAST_PLANS > maxBytes) {
      this.droppedCount += 1;
      return;
    }
    this.#makeRoom({ maxPlans: maxPlans - 1, maxBytes: maxBytes - made.sizeBytes });
    this.#byKey.set(made.key, made);
    this.sizeBytes += made.sizeBytes;
  }

  prepare(kept: Kept<P>, prepared: P | undefined): void {
    const moreBytes = (prepared?.sizeBytes ?? 0) - (kept.prepared?.sizeBytes ?? 0);
    if ((kept.sizeBytes + moreBytes) * LEAST_PLANS > this.#bounds.maxBytes) return;
    kept.prepared = prepared;
    kept.sizeBytes += moreBytes;
    this.sizeBytes += moreBytes;
    this.#makeRoom(this.#bounds);
  }

  drop(key: string): void {
    this.sizeBytes -= this.#byKey.get(key)?.sizeBytes ?? 0;
    this.#byKey.delete(key);
  }

  clear(): void {
    this.#byKey.clear();
    this.sizeBytes = 0;
  }

  /** Cost: the plans that go, and those that were used since the last time. Each is passed over once at most. */
  #makeRoom({ maxPlans, maxBytes }: PlanPoolBounds): void {
    let spareCount = this.#byKey.size;
    for (const [key, kept] of this.#byKey) {
      if (this.#byKey.size <= maxPlans && this.sizeBytes <= maxBytes) return;
      if (kept.isUsed && spareCount > 0) {
        spareCount -= 1;
        kept.isUsed = false;
        this.#byKey.delete(key);
        this.#byKey.set(key, kept);
        continue;
      }
      this.drop(key);
      this.droppedCount += 1;
    }
  }
}

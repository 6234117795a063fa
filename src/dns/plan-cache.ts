/** Plans by question, for one view of the catalog: bounded in number and in the memory they take. */
import { type Plan, planAnswer, type Question } from "./answer.ts";
import { planBytes, thinned } from "./plan-size.ts";
import type { DnsSettings } from "./records.ts";
import type { DnsCatalog } from "./subject.ts";

export interface PlanCacheOptions {
  readonly settings: DnsSettings;
  /** Numbers in [0, 1); draws the part of a plan that is too large as a whole. */
  readonly random: () => number;
  /** At either bound the oldest go. */
  readonly maxPlans: number;
  readonly maxBytes: number;
}

/** Answers drawn from one sample of a crowded name: a plan costs as much as some hundred answers from it, and a sample has some forty. */
const ANSWERS_PER_SAMPLE = 16;
/** Answers from one part of a plan that is too large to be kept whole: megabytes of text, which take a tenth of a second to plan. */
const ANSWERS_PER_PART = 256;
/** One in so many of the bytes is a plan's at most. */
const LEAST_PLANS = 8;
const NOTHING_HIDDEN: readonly string[] = [];
/** A text of a plan's own beside its characters: a key, a namespace that is hidden. */
const TEXT_BYTES = 48;

interface Kept {
  readonly plan: Plan;
  readonly hidden: readonly string[];
  /** The plan of an alias has the sample of the name it leads to. */
  readonly sample: { answersLeft: number };
  readonly sizeBytes: number;
}

/** One change in the catalog empties it: no answer outlives what it was made from. */
export class PlanCache {
  readonly #options: PlanCacheOptions;
  readonly #byQuestion = new Map<string, Kept>();
  #revision = -1;
  #sizeBytes = 0;
  #droppedCount = 0;

  constructor(options: PlanCacheOptions) {
    this.#options = options;
  }

  /** Memory of what is kept, at most `maxBytes`; counted too high rather than too low. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Plans that made room for others, or had none, so far. */
  get droppedCount(): number {
    return this.#droppedCount;
  }

  plan(question: Question, catalog: DnsCatalog): Plan {
    if (catalog.revision !== this.#revision) {
      this.#byQuestion.clear();
      this.#sizeBytes = 0;
      this.#revision = catalog.revision;
    }
    const key = keyOf(question);
    const kept = this.#find(key) ?? this.#make(question, key, catalog, (next) => this.#ending(next, catalog));
    kept.sample.answersLeft -= 1;
    if (kept.hidden.length > 0) catalog.onHidden?.(kept.hidden);
    return kept.plan;
  }

  #find(key: string): Kept | undefined {
    const kept = this.#byQuestion.get(key);
    return kept !== undefined && kept.sample.answersLeft > 0 ? kept : undefined;
  }

  /** What the plans of all aliases of a name end in: made once and shared, unless it leads on itself. */
  #ending(question: Question, catalog: DnsCatalog): Kept | undefined {
    const key = keyOf(question);
    const kept = this.#find(key) ?? this.#make(question, key, catalog, () => undefined);
    return kept.plan.groups[0]?.[0]?.type === "CNAME" ? undefined : kept;
  }

  #make(question: Question, key: string, catalog: DnsCatalog, endingOf: (question: Question) => Kept | undefined): Kept {
    const { settings, random, maxBytes } = this.#options;
    const hidden = new Set<string>();
    let isSample = false;
    let ending: Kept | undefined;
    const takeNotes = (): void => {
      for (const namespace of catalog.takeHidden?.() ?? NOTHING_HIDDEN) hidden.add(namespace);
      if (catalog.takeSampled?.() === true) isSample = true;
    };
    let plan = planAnswer(question, catalog, settings, (next) => {
      // Before the ending takes its own.
      takeNotes();
      ending = endingOf(next);
      return ending?.plan;
    });
    takeNotes();
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
    const made: Kept = { plan, hidden: hidden.size === 0 ? NOTHING_HIDDEN : [...hidden], sample, sizeBytes };
    this.#keep(key, made);
    return made;
  }

  #keep(key: string, made: Kept): void {
    const { maxPlans, maxBytes } = this.#options;
    // Its sample has had its answers.
    this.#drop(key);
    if (made.sizeBytes * LEAST_PLANS > maxBytes) {
      this.#droppedCount += 1;
      return;
    }
    for (const oldest of this.#byQuestion.keys()) {
      if (this.#byQuestion.size < maxPlans && this.#sizeBytes + made.sizeBytes <= maxBytes) break;
      this.#drop(oldest);
      this.#droppedCount += 1;
    }
    this.#byQuestion.set(key, made);
    this.#sizeBytes += made.sizeBytes;
  }

  #drop(key: string): void {
    this.#sizeBytes -= this.#byQuestion.get(key)?.sizeBytes ?? 0;
    this.#byQuestion.delete(key);
  }
}

function keyOf(question: Question): string {
  return `${question.name} ${question.type} ${question.class}`;
}

function bytesOfTexts(texts: readonly string[]): number {
  // Twice: the name of a question is in its key and in its records.
  return texts.reduce((sum, text) => sum + TEXT_BYTES + 2 * text.length, 0);
}

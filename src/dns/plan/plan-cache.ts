/** Keeps plans by question, for one view of the catalog, within bounds on their number and their memory. */
import { MAX_DNS_PLANS } from "../../lib/bounds.ts";
import type { DnsRecord, DnsSettings } from "../records/record.ts";
import { dataBytes, hostOf } from "../records/records.ts";
import { type Plan, planAnswer, type Question, shuffled } from "./answer.ts";
import type { DnsCatalog } from "./subject.ts";

export interface PlanCacheOptions {
  readonly settings: DnsSettings;
  /** Gives numbers in [0, 1), to draw a part of a plan that is too large as a whole. */
  readonly random: () => number;
  /** Plans kept; `MAX_DNS_PLANS` unless set. At this bound, and at the next, the oldest plans go. */
  readonly maxPlans?: number | undefined;
  /** Memory of the plans kept. */
  readonly maxPlansBytes: number;
}

/** Answers from one sample of a crowded name. A plan costs as much as some hundred answers from it, and a sample has some forty entries. */
const ANSWERS_PER_SAMPLE = 16;
/** Answers from one part of a plan that is too large to be kept. Such a plan is megabytes of text, and takes a tenth of a second to make. */
const ANSWERS_PER_PART = 256;
/** The bytes have room for at least this many plans: no single plan takes more than an eighth of them. */
const LEAST_PLANS = 8;
const NOTHING_HIDDEN: readonly string[] = [];
/** Memory of a text (a key, a hidden namespace) besides its characters. */
const TEXT_BYTES = 48;
/** Memory of a record without its texts. This and the three below were measured on Node 24 and rounded up. */
const RECORD_BYTES = 352;
/** Memory of one more string of a record. */
const STRING_BYTES = 48;
/** Memory of a name of the glue. */
const GLUE_BYTES = 160;
/** Memory of a plan without records. */
const PLAN_BYTES = 896;
/** Twice the largest answer (65,535 bytes). A part of a plan holds at least this much, so that each answer from it is as full as one from the whole plan. */
const ANSWER_ROOM_BYTES = 131_070;

interface Kept {
  readonly plan: Plan;
  readonly hidden: readonly string[];
  /** How many more answers may be drawn. The plan of an alias shares it with the name that the alias leads to. */
  readonly sample: { answersLeft: number };
  readonly sizeBytes: number;
}

/** Another catalog, and every change of the catalog, empties the cache: no answer is of another viewer, or older than the catalog. */
export class PlanCache {
  readonly #options: PlanCacheOptions;
  readonly #byQuestion = new Map<string, Kept>();
  #catalog: DnsCatalog | undefined;
  #revision = -1;
  #sizeBytes = 0;
  #droppedCount = 0;

  constructor(options: PlanCacheOptions) {
    this.#options = options;
  }

  /** Memory of the plans kept, at most `maxPlansBytes`; rather too many than too few bytes. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** How many plans were dropped to make room for others, or found no room, so far. */
  get droppedCount(): number {
    return this.#droppedCount;
  }

  plan(question: Question, catalog: DnsCatalog): Plan {
    if (catalog.revision !== this.#revision || catalog !== this.#catalog) {
      this.#byQuestion.clear();
      this.#sizeBytes = 0;
      this.#catalog = catalog;
      this.#revision = catalog.revision;
    }
    const key = keyOf(question);
    const kept = this.#find(key) ?? this.#make(question, key, catalog, (next) => this.#ending(next, catalog));
    kept.sample.answersLeft -= 1;
    if (kept.hidden.length > 0) catalog.onHidden(kept.hidden);
    return kept.plan;
  }

  #find(key: string): Kept | undefined {
    const kept = this.#byQuestion.get(key);
    return kept !== undefined && kept.sample.answersLeft > 0 ? kept : undefined;
  }

  /** The plan that those of all aliases of a name end in, made once and shared. Undefined when it begins with a CNAME itself. */
  #ending(question: Question, catalog: DnsCatalog): Kept | undefined {
    const key = keyOf(question);
    const kept = this.#find(key) ?? this.#make(question, key, catalog, () => undefined);
    return kept.plan.groups[0]?.[0]?.type === "CNAME" ? undefined : kept;
  }

  #make(question: Question, key: string, catalog: DnsCatalog, endingOf: (question: Question) => Kept | undefined): Kept {
    const { settings, random, maxPlansBytes: maxBytes } = this.#options;
    const hidden = new Set<string>();
    let isSample = false;
    let ending: Kept | undefined;
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
    const { maxPlans = MAX_DNS_PLANS, maxPlansBytes: maxBytes } = this.#options;
    // A plan under this key had all its answers.
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
  // Twice the length, because the name of a question is in its key and in its records.
  return texts.reduce((sum, text) => sum + TEXT_BYTES + 2 * text.length, 0);
}

/** Bytes of memory that a plan takes, rather too many than too few. Records that it shares with other plans are counted in full. Cost: its records. */
function planBytes({ groups, authority, glue }: Plan): number {
  let bytes = PLAN_BYTES;
  for (const group of groups) for (const record of group) bytes += recordBytes(record);
  for (const record of authority) bytes += recordBytes(record);
  for (const [name, records] of glue) bytes += glueBytes(name, records);
  return bytes;
}

function glueBytes(name: string, records: readonly DnsRecord[]): number {
  return records.reduce((sum, record) => sum + recordBytes(record), GLUE_BYTES + name.length);
}

/**
 * A part of a plan, with as many records as the largest answer has room for and at most `maxBytes` of memory. Its records are drawn as for an answer:
 * groups in order, and from each group any records. One answer from the part is like one from the whole plan; after some answers, another
 * part must be drawn.
 */
function thinned(plan: Plan, random: () => number, maxBytes: number): Plan {
  const groups: (readonly DnsRecord[])[] = [];
  const glue = new Map<string, readonly DnsRecord[]>();
  let room = ANSWER_ROOM_BYTES;
  let left = maxBytes - planBytes({ ...plan, groups: [], glue });
  for (const group of plan.groups) {
    const part: DnsRecord[] = [];
    for (const record of shuffled(group, random)) {
      const host = hostOf(record);
      const addresses = host === undefined ? undefined : plan.glue.get(host);
      left -= recordBytes(record);
      if (host !== undefined && addresses !== undefined) left -= glueBytes(host, addresses);
      if (room <= 0 || left < 0) break;
      part.push(record);
      room -= dataBytes(record);
      if (host !== undefined && addresses !== undefined) glue.set(host, addresses);
    }
    if (part.length > 0) groups.push(part);
  }
  return { ...plan, groups, glue };
}

function recordBytes(record: DnsRecord): number {
  const strings = record.type === "TXT" ? record.data.strings.length : 0;
  return RECORD_BYTES + dataBytes(record) + strings * STRING_BYTES;
}

/** Query bytes to response bytes: decode, plan (kept until the catalog changes), draw, encode. */
import { WaymarkError } from "../lib/errors.ts";
import type { LabelsOf } from "../lib/metrics.ts";
import { drawAnswer, failure, type Plan, planAnswer, type Question, RCODE, type Rcode } from "./answer.ts";
import { type DnsSettings, findRecordType } from "./records.ts";
import type { DnsCatalog } from "./subject.ts";
import { type Decoded, type DnsTransport, decodeQuery, ResponseEncoder, responseLimitBytes } from "./wire.ts";

type QueryLabels = LabelsOf<"dns_queries_total">;

/** What became of a query. */
export interface Reply {
  /** The response; the responder's until its next call, so copy what is kept. */
  readonly bytes: Uint8Array;
  /** Type asked for and response code, as the metrics name them; `other` also when there was no question. */
  readonly qtype: QueryLabels["qtype"];
  readonly rcode: QueryLabels["rcode"];
  readonly isTruncated: boolean;
  /** What went wrong inside us, when rcode is SERVFAIL. */
  readonly fault: unknown;
}

export interface ResponderOptions {
  readonly settings: DnsSettings;
  /** Numbers in [0, 1); shuffles answers. */
  readonly random: () => number;
  /** Plans kept for one catalog view; 10,000 unless set. At the bound the oldest goes. */
  readonly maxPlans?: number;
}

const DEFAULT_MAX_PLANS = 10_000;
const TYPE_ANY = 255;
const NOTHING_HIDDEN: readonly string[] = [];
const NO_QUESTION = new Uint8Array();
const CUT: Plan = failure(RCODE.NOERROR);
const RCODE_LABELS = {
  [RCODE.NOERROR]: "NOERROR",
  [RCODE.FORMERR]: "FORMERR",
  [RCODE.SERVFAIL]: "SERVFAIL",
  [RCODE.NXDOMAIN]: "NXDOMAIN",
  [RCODE.NOTIMP]: "NOTIMP",
  [RCODE.REFUSED]: "REFUSED",
  [RCODE.BADVERS]: "other",
} as const satisfies Record<Rcode, QueryLabels["rcode"]>;

export class Responder {
  readonly #settings: DnsSettings;
  readonly #random: () => number;
  readonly #maxPlans: number;
  readonly #encoder = new ResponseEncoder();
  /** A view's plans go with the view. */
  readonly #plans = new WeakMap<DnsCatalog, PlanCache>();

  constructor(options: ResponderOptions) {
    this.#settings = options.settings;
    this.#random = options.random;
    this.#maxPlans = options.maxPlans ?? DEFAULT_MAX_PLANS;
  }

  /**
   * Answers one message with what `findCatalog` lets its sender see; undefined when nothing may be answered. Never throws,
   * whatever the bytes are and the catalog does.
   */
  respond(message: Uint8Array, transport: DnsTransport, findCatalog: () => DnsCatalog): Reply | undefined {
    const decoded = decodeQuery(message);
    if (decoded.kind === "dropped") return undefined;
    if (decoded.kind === "refused") return this.#encode(decoded, failure(decoded.rcode), { transport, fault: undefined });
    try {
      return this.#encode(decoded, this.#plan(decoded.question, findCatalog()), { transport, fault: undefined });
    } catch (fault) {
      if (isRefusal(fault)) return this.#encode(decoded, failure(RCODE.REFUSED), { transport, fault: undefined });
      // A resolver asks another server, or keeps what it has; an empty answer would be believed.
      if (isNotReady(fault)) return this.#encode(decoded, failure(RCODE.SERVFAIL), { transport, fault: undefined });
      // semantics.md, DNS: a gateway fault is this query's SERVFAIL and nobody else's. The shell reports it.
      return this.#encode(decoded, failure(RCODE.SERVFAIL), { transport, fault });
    }
  }

  /**
   * Tells the sender of a question to ask again over TCP, in no more bytes than it sent; undefined for a message that is none, which gets
   * nothing.
   */
  cut(message: Uint8Array): Reply | undefined {
    const decoded = decodeQuery(message);
    if (decoded.kind !== "query") return undefined;
    return this.#encode(decoded, CUT, { transport: "udp", fault: undefined, isCut: true });
  }

  #plan(question: Question, catalog: DnsCatalog): Plan {
    let cache = this.#plans.get(catalog);
    if (cache === undefined) {
      cache = new PlanCache(this.#maxPlans);
      this.#plans.set(catalog, cache);
    }
    return cache.plan(question, catalog, this.#settings);
  }

  #encode(
    decoded: Exclude<Decoded, { kind: "dropped" }>,
    plan: Plan,
    { transport, fault, isCut = false }: { readonly transport: DnsTransport; readonly fault: unknown; readonly isCut?: boolean },
  ): Reply {
    const { header, edns } = decoded;
    const question = decoded.kind === "query" ? decoded.question : undefined;
    const encoded = this.#encoder.encode({
      header,
      question,
      questionBytes: decoded.kind === "query" ? decoded.questionBytes : NO_QUESTION,
      edns,
      answer: drawAnswer(plan, this.#random),
      limitBytes: responseLimitBytes(transport, edns),
      isCut,
    });
    return { ...encoded, qtype: qtypeLabel(question), rcode: RCODE_LABELS[plan.rcode], fault };
  }
}

/** Answers drawn from one sample of a crowded name: a plan costs as much as some hundred answers from it, and a sample has some forty. */
const ANSWERS_PER_SAMPLE = 16;

interface Kept {
  readonly plan: Plan;
  readonly hidden: readonly string[];
  answersLeft: number;
}

/** Plans by question. One change in the catalog empties it: no answer outlives what it was made from. */
class PlanCache {
  readonly #max: number;
  readonly #byQuestion = new Map<string, Kept>();
  #revision = -1;

  constructor(max: number) {
    this.#max = max;
  }

  plan(question: Question, catalog: DnsCatalog, settings: DnsSettings): Plan {
    if (catalog.revision !== this.#revision) {
      this.#byQuestion.clear();
      this.#revision = catalog.revision;
    }
    const key = `${question.name} ${question.type} ${question.class}`;
    const kept = this.#byQuestion.get(key);
    if (kept !== undefined && kept.answersLeft > 0) {
      kept.answersLeft -= 1;
      if (kept.hidden.length > 0) catalog.onHidden?.(kept.hidden);
      return kept.plan;
    }
    const plan = planAnswer(question, catalog, settings);
    const hidden = catalog.takeHidden?.() ?? NOTHING_HIDDEN;
    if (hidden.length > 0) catalog.onHidden?.(hidden);
    const answersLeft = catalog.takeSampled?.() === true ? ANSWERS_PER_SAMPLE - 1 : Infinity;
    if (kept === undefined && this.#byQuestion.size >= this.#max) {
      const oldest = this.#byQuestion.keys().next();
      if (!oldest.done) this.#byQuestion.delete(oldest.value);
    }
    this.#byQuestion.set(key, { plan, hidden, answersLeft });
    return plan;
  }
}

/** Over the limit, or not for this peer at all: said as REFUSED, and no fault of ours. */
function isRefusal(error: unknown): boolean {
  return error instanceof WaymarkError && (error.reason === "discovery_rate_limited" || error.reason === "discovery_access_denied");
}

function isNotReady(error: unknown): boolean {
  return error instanceof WaymarkError && error.reason === "not_ready";
}

function qtypeLabel(question: Question | undefined): QueryLabels["qtype"] {
  if (question === undefined) return "other";
  if (question.type === TYPE_ANY) return "ANY";
  const type = findRecordType(question.type);
  return type === undefined || type === "HINFO" ? "other" : type;
}

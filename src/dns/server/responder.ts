/** Turns query bytes into response bytes: decodes, plans (plans are kept until the catalog changes), shuffles and encodes. */
import { WaymarkError } from "../../lib/errors.ts";
import type { LabelsOf } from "../../lib/metrics/metrics.ts";
import { type Answer, drawAnswer, failure, type Plan, type Question, RCODE, type Rcode } from "../plan/answer.ts";
import { PlanCache, type PlanCacheOptions } from "../plan/plan-cache.ts";
import type { DnsRecord } from "../records/record.ts";
import { findRecordType } from "../records/records.ts";
import type { ClientSubnet, Selected } from "../views/asker.ts";
import { UnknownName } from "../views/elsewhere.ts";
import { type Decoded, type DnsTransport, decodeQuery, ResponseEncoder, responseLimitBytes } from "../wire/wire.ts";

type QueryLabels = LabelsOf<"dns_queries_total">;

/** The response to a query, and what the metrics need to know of it. */
export interface Reply {
  /** The response. The responder uses the bytes again at its next call, so keep a copy. */
  readonly bytes: Uint8Array;
  /** Type and response code as the metrics name them; the type is `other` also without a question. */
  readonly qtype: QueryLabels["qtype"];
  readonly rcode: QueryLabels["rcode"];
  readonly isTruncated: boolean;
  /** Our own fault behind a SERVFAIL; undefined without one. */
  readonly fault: unknown;
  /** What is being fetched for the question, which until then is answered SERVFAIL. */
  readonly unknown: UnknownName | undefined;
}

const TYPE_ANY = 255;
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

export interface ResponderOptions extends PlanCacheOptions {
  /** The serial of the zone for a view, by its index. Absent: SOA tells the revision of the catalog. */
  readonly serialOf?: ((viewIndex: number) => number) | undefined;
}

export class Responder {
  /** What is kept of the plans. */
  readonly plans: PlanCache;
  readonly #random: () => number;
  readonly #serialOf: ResponderOptions["serialOf"];
  readonly #encoder = new ResponseEncoder();

  /** `random` also shuffles answers. */
  constructor(options: ResponderOptions) {
    this.plans = new PlanCache(options);
    this.#serialOf = options.serialOf;
    this.#random = options.random;
  }

  /**
   * Answers one message from the view that `select` gives for the client subnet of the question; undefined when the message must not be
   * answered. Never throws, whatever the bytes are and whatever the catalog does.
   */
  respond(message: Uint8Array, transport: DnsTransport, select: (subnet: ClientSubnet | undefined) => Selected): Reply | undefined {
    const decoded = decodeQuery(message);
    if (decoded.kind === "dropped") return undefined;
    if (decoded.kind === "refused") return this.#encode(decoded, failure(decoded.rcode), { transport, fault: undefined });
    try {
      const selected = select(undefined);
      const plan = "refused" in selected ? failure(RCODE.REFUSED) : this.plans.plan(decoded.question, selected.catalog).plan;
      if ("refused" in selected) return this.#encode(decoded, plan, { transport, fault: undefined });
      const { catalog, isBySubnet } = selected;
      const serial = this.#serialOf?.(catalog.view.index) ?? catalog.revision % 0x1_0000_0000;
      return this.#encode(decoded, plan, { transport, fault: undefined, soa: { serial, isBySubnet } });
    } catch (fault) {
      const reason = fault instanceof WaymarkError ? fault.reason : undefined;
      // The caller is over its limit, or may not ask at all.
      const isRefusal = reason === "discovery_rate_limited" || reason === "discovery_access_denied";
      // After SERVFAIL a resolver asks another server, or keeps what it has. It would believe an empty answer.
      const plan = failure(isRefusal ? RCODE.REFUSED : RCODE.SERVFAIL);
      // semantics.md, DNS: a fault of the gateway affects this query only. The shell reports it; a node that is not ready is no fault.
      const unknown = fault instanceof UnknownName ? fault : undefined;
      return this.#encode(decoded, plan, { transport, fault: isRefusal || reason === "not_ready" ? undefined : fault, unknown });
    }
  }

  /** Tells the sender of a question to ask again over TCP, in no more bytes than it sent. Undefined for other messages, which get no answer. */
  cut(message: Uint8Array): Reply | undefined {
    const decoded = decodeQuery(message);
    if (decoded.kind !== "query") return undefined;
    return this.#encode(decoded, CUT, { transport: "udp", fault: undefined, isCut: true });
  }

  #encode(
    decoded: Exclude<Decoded, { kind: "dropped" }>,
    plan: Plan,
    {
      transport,
      fault,
      isCut = false,
      unknown,
      soa,
    }: {
      readonly transport: DnsTransport;
      readonly fault: unknown;
      readonly isCut?: boolean;
      readonly unknown?: UnknownName | undefined;
      readonly soa?: SoaOfMoment | undefined;
    },
  ): Reply {
    const { header, edns } = decoded;
    const question = decoded.kind === "query" ? decoded.question : undefined;
    const encoded = this.#encoder.encode({
      header,
      question,
      questionBytes: decoded.kind === "query" ? decoded.questionBytes : NO_QUESTION,
      edns,
      answer: soa === undefined ? drawAnswer(plan, this.#random) : withSoa(drawAnswer(plan, this.#random), soa),
      limitBytes: responseLimitBytes(transport, edns),
      isCut,
    });
    return { ...encoded, qtype: qtypeLabel(question), rcode: RCODE_LABELS[plan.rcode], fault, unknown };
  }
}

/** What SOA says at this moment: plans are kept for longer than a version of the zone, and for askers with a client subnet and without. */
interface SoaOfMoment {
  readonly serial: number;
  readonly isBySubnet: boolean;
}

function withSoa(answer: Answer, { serial, isBySubnet }: SoaOfMoment): Answer {
  const { answers, authority } = answer;
  if (authority.length === 0 && answers.at(-1)?.type !== "SOA") return answer;
  const renewed = (record: DnsRecord): DnsRecord => (record.type === "SOA" ? { ...record, data: { ...record.data, serial } } : record);
  // Forwarders keep a negative answer for everybody, whoever it was for (RFC 7871, 7.4). So they are to keep it for nobody.
  const unkept = (record: DnsRecord): DnsRecord =>
    record.type === "SOA" ? { ...record, ttlSeconds: 0, data: { ...record.data, minimumSeconds: 0 } } : record;
  const negative = authority.map(renewed);
  return { ...answer, answers: answers.map(renewed), authority: isBySubnet ? negative.map(unkept) : negative };
}

function qtypeLabel(question: Question | undefined): QueryLabels["qtype"] {
  if (question === undefined) return "other";
  if (question.type === TYPE_ANY) return "ANY";
  const type = findRecordType(question.type);
  return type === undefined || type === "HINFO" ? "other" : type;
}

/** Turns query bytes into response bytes: parses the query, finds or builds its plan, applies response rate limiting, and writes the response. */
import { WaymarkError } from "../../lib/errors.ts";
import type { LabelsOf } from "../../lib/metrics/metrics.ts";
import { type CachedPlan, PlanCache, type PlanCacheOptions } from "../cache/plan-cache.ts";
import { type AnswerPlan, CLASS_IN, failure, RCODE, type Rcode } from "../plan/answer.ts";
import { EXTENDED_ERROR } from "../plan/extended-errors.ts";
import type { RecordOf, RecordType } from "../records/record.ts";
import { findRecordType } from "../records/records.ts";
import { SignerBusyError, type ZoneSigner } from "../signing/zone-signer.ts";
import { PendingNameError } from "../subject/remote-lookup.ts";
import type { RequestedTransfer, TransferRequest } from "../transfer/zone-messages.ts";
import type { ClientSubnet, ViewSelection } from "../views/query-client.ts";
import { COOKIE_SECRET_BYTES, SERVER_COOKIE_BYTES, ServerCookies } from "../wire/cookies.ts";
import { DnsQuery, HEADER_BYTES } from "../wire/dns-query.ts";
import { NameDenials, type PreparedResponse, prepare } from "../wire/prepared-response.ts";
import {
  type DnsTransport,
  leastResponseBytes,
  PLAIN_OPT,
  type ResponseFacts,
  ResponseWriter,
  responseLimitBytes,
} from "../wire/response.ts";
import { judgeTsig, type ResponseSignature, TSIG_ERROR, type TsigKey, type TsigVerdict, tsigBytes, withTsig } from "../wire/tsig.ts";
import { type ResponseRates, rateClassOf } from "./response-rate.ts";

type QueryLabels = LabelsOf<"dns_queries_total">;

/** The response to a query, and data for metrics. The responder reuses this object in its next call, but does not reuse the bytes. */
export interface ResponderReply {
  /** Empty if no response is sent. */
  readonly bytes: Uint8Array;
  /** The type and response code, used as metric labels. The type is `other` for unlisted types and for messages without a question. */
  readonly qtype: QueryLabels["qtype"];
  readonly rcode: QueryLabels["rcode"];
  readonly isTruncated: boolean;
  /**
   * `cut` means that the rate limit was exceeded, so the client receives TC and must retry over TCP. `dropped` means that the rate limit was exceeded
   * and no response is sent.
   */
  readonly rate: "whole" | "cut" | "dropped";
  /** The internal error that caused a SERVFAIL response. Undefined when there is none. */
  readonly fault: unknown;
  /** The fetch that the question can wait for. If the question does not wait, the answer is SERVFAIL. */
  readonly unknown: PendingNameError | undefined;
  /** The zone transfer to send instead of `bytes`. */
  readonly transfer: TransferRequest | undefined;
}

/** The TSIG keys that clients can use, and the transfer permissions. */
export interface TransferKeys {
  readonly find: (name: string) => TsigKey | undefined;
  readonly mayBegin: (asked: Omit<RequestedTransfer, "address">) => boolean;
}

export interface ResponderOptions extends PlanCacheOptions {
  /** Creates and verifies server cookies. Defaults to an all-zero secret, for responders whose cookies are not verified. */
  readonly cookies?: ServerCookies | undefined;
  /** Limits responses over UDP. If absent, there is no limit. */
  readonly rates?: ResponseRates | undefined;
  /** Idle timeout of a TCP connection, sent to clients that request it (RFC 7828). */
  readonly idleTimeoutMs?: number | undefined;
  /** Returns the zone serial for a view, given the view index. */
  readonly serialOf: (viewIndex: number) => number;
  /** Signs answers for clients that request DNSSEC records. If absent, zones are not signed. */
  readonly signer?: ZoneSigner | undefined;
  /** If absent, no TSIG keys are configured. */
  readonly transferKeys?: TransferKeys | undefined;
  /** Returns the wall-clock time, for cookies and TSIG. If absent, the time is always 0. */
  readonly wallMs?: (() => number) | undefined;
}

/** The sender of a query and the query's arrival time. */
export interface QuerySender {
  readonly address: string;
  readonly monoMs: number;
  /**
   * Whether the question can wait for a fetch. `proved` means that only senders with a verified address can wait. A waiting response has not been
   * counted against the sender's rate yet.
   */
  readonly room: "all" | "proved" | "nobody";
  /** On a retry, the fetch that the question waited for. The question then keeps its waiting slot. */
  readonly waited?: PendingNameError | undefined;
  /** Whether a zone may be transferred over the sender's connection. */
  readonly mayTransfer?: boolean;
}

/** Flags copied from the query: the opcode and RD. */
const COPIED_FLAGS = 0x7900;
/** The CD flag, which DNSSEC-aware servers copy to the response (RFC 4035, 3.1.6). */
const CHECKING_DISABLED = 0x0010;
const NOBODY: QuerySender = { address: "", monoMs: 0, room: "all", mayTransfer: true };
const TYPE_ANY = 255;
const TYPE_AXFR = 252;
const TYPE_IXFR = 251;
/** Rate class of questions that wait. It is separate from the classes of answers. */
const WAITING_CLASS = "~";
/** UDP responses larger than this multiple of their query share one limit for all unverified senders. */
const AMPLIFYING = 3;
const RCODE_LABELS = {
  [RCODE.NOERROR]: "NOERROR",
  [RCODE.FORMERR]: "FORMERR",
  [RCODE.SERVFAIL]: "SERVFAIL",
  [RCODE.NXDOMAIN]: "NXDOMAIN",
  [RCODE.NOTIMP]: "NOTIMP",
  [RCODE.REFUSED]: "REFUSED",
  [RCODE.NOTAUTH]: "other",
  [RCODE.BADVERS]: "other",
  [RCODE.BADCOOKIE]: "other",
} as const satisfies Record<Rcode, QueryLabels["rcode"]>;

type ViewSelector = (subnet: ClientSubnet | undefined, keyView?: number) => ViewSelection;
type MutableReply = { -readonly [K in keyof ResponderReply]: ResponderReply[K] };

export class DnsResponder {
  /** The plan cache. */
  readonly plans: PlanCache<PreparedResponse>;
  readonly #query = new DnsQuery();
  readonly #writer: ResponseWriter;
  readonly #cookies: ServerCookies;
  readonly #rates: ResponseRates | undefined;
  readonly #idleTimeoutMs: number | undefined;
  readonly #wallMs: () => number;
  readonly #serialOf: ResponderOptions["serialOf"];
  readonly #signer: ZoneSigner | undefined;
  #transport: DnsTransport = "udp";
  #mayTransfer = false;
  /** The last prepared plan that was too large to cache. It is reused because a name with such a plan can be queried repeatedly. */
  #roomless: { readonly plan: AnswerPlan; readonly prepared: PreparedResponse } | undefined;
  readonly #failures = new Map<Rcode, PreparedResponse>();
  readonly #denials = new NameDenials();
  readonly #facts: ResponseFacts = {
    limitBytes: 0,
    signatureBytes: 0,
    isCut: false,
    answerLimit: undefined,
    serial: undefined,
    soaSignature: undefined,
    isCompact: true,
    copiedFlags: COPIED_FLAGS,
    extendedError: undefined,
    cookie: new Uint8Array(SERVER_COOKIE_BYTES),
    scopePrefix: 0,
    keepalive: undefined,
    isPadded: false,
    isUncached: false,
  };
  readonly #reply: MutableReply = {
    bytes: new Uint8Array(),
    qtype: "other",
    rcode: "NOERROR",
    isTruncated: false,
    rate: "whole",
    fault: undefined,
    unknown: undefined,
    transfer: undefined,
  };
  readonly #settings: ResponderOptions["settings"];
  readonly #transferKeys: TransferKeys | undefined;
  /** The TSIG data to sign the response with. Undefined when the query is not signed. */
  #signing: ResponseSignature | undefined;
  #sender = NOBODY;
  /** The rate limit of this sender. Undefined when the sender's address is verified, or no rate is configured. */
  #bound: ResponseRates | undefined;
  /** Whether the question may wait. Undefined until first needed. */
  #isLetWait: boolean | undefined;
  readonly #mayWait = (): boolean => (this.#isLetWait ??= mayWait(this.#sender, this.#bound));

  /** `random` also determines the order of records. */
  constructor(options: ResponderOptions) {
    this.plans = new PlanCache(options);
    this.#writer = new ResponseWriter(options.random);
    this.#cookies = options.cookies ?? new ServerCookies([new Uint8Array(COOKIE_SECRET_BYTES)]);
    this.#rates = options.rates;
    this.#idleTimeoutMs = options.idleTimeoutMs;
    this.#serialOf = options.serialOf;
    this.#signer = options.signer;
    if (options.signer !== undefined) this.#facts.copiedFlags = COPIED_FLAGS | CHECKING_DISABLED;
    this.#settings = options.settings;
    this.#transferKeys = options.transferKeys;
    this.#wallMs = options.wallMs ?? (() => 0);
  }

  /**
   * Answers one message, using the view that `select` returns for the question's client subnet and the view of its TSIG key. Returns undefined when
   * the message must not be answered. Never throws, regardless of the input bytes and of catalog failures.
   */
  respond(message: Uint8Array, transport: DnsTransport, select: ViewSelector, sender: QuerySender = NOBODY): ResponderReply | undefined {
    const query = this.#query;
    if (!query.read(message)) return undefined;
    const facts = this.#facts;
    facts.limitBytes = responseLimitBytes(transport, query);
    facts.signatureBytes = 0;
    facts.isCut = false;
    facts.answerLimit = undefined;
    facts.serial = undefined;
    facts.soaSignature = undefined;
    facts.isCompact = this.#signer === undefined || !query.isDnssecOk || !query.isCompactOk;
    this.#transport = transport;
    this.#mayTransfer = sender.mayTransfer === true;
    facts.extendedError = undefined;
    facts.scopePrefix = 0;
    facts.isUncached = false;
    // The timeout is in tenths of a second. The option has no meaning over UDP (RFC 7828, 3.2), and HTTP has its own keepalive.
    const hasKeepalive = query.hasKeepalive && (transport === "tcp" || transport === "dot") && this.#idleTimeoutMs !== undefined;
    facts.keepalive = hasKeepalive ? Math.min(0xffff, Math.floor((this.#idleTimeoutMs ?? 0) / 100)) : undefined;
    // Unencrypted responses must not be padded (RFC 7830, 6).
    facts.isPadded = query.hasPadding && (transport === "dot" || transport === "doh");
    const reply = this.#reply;
    reply.qtype = "other";
    reply.fault = undefined;
    reply.unknown = undefined;
    reply.transfer = undefined;
    reply.rate = "whole";
    const hasValidCookie = query.cookieBytes > 0 && this.#cookie(sender);
    this.#signing = undefined;
    this.#sender = sender;
    const rates = transport !== "udp" || hasValidCookie ? undefined : this.#rates;
    this.#bound = rates;
    this.#isLetWait = undefined;
    const prepared = (query.tsigAt > 0 ? this.#judged() : undefined) ?? this.#answer(select, hasValidCookie, transport);
    reply.rcode = RCODE_LABELS[prepared.rcode];
    if (rates !== undefined && reply.unknown === undefined) this.#bounded(prepared, sender, rates);
    else this.#write(prepared);
    return reply;
  }

  #write(prepared: PreparedResponse): void {
    this.#reply.bytes = this.#written(prepared);
    this.#reply.isTruncated = this.#writer.isTruncated;
    // An incomplete signed RRset cannot be validated, and clients that use TCP cannot retry over a transport with larger messages.
    if (!prepared.isSigned || !this.#writer.isTruncated || this.#transport === "udp") return;
    this.#reply.rcode = "SERVFAIL";
    this.#reply.bytes = this.#written(this.#failure(RCODE.SERVFAIL));
    this.#reply.isTruncated = false;
  }

  /** Returns the message, signed with TSIG if the query was signed. */
  #written(prepared: PreparedResponse): Uint8Array {
    const bytes = this.#writer.write(this.#query, prepared, this.#facts);
    return this.#signing === undefined ? bytes : withTsig(bytes, this.#signing);
  }

  /** When the rate limit is exceeded, every second response has TC set and is no larger than the query. The other responses are not sent. */
  #bounded(prepared: PreparedResponse, { address, monoMs }: QuerySender, rates: ResponseRates): void {
    const reply = this.#reply;
    reply.rate = rates.judge(address, rateClassOf(prepared), monoMs);
    if (reply.rate === "dropped") {
      reply.bytes = NO_BYTES;
      reply.isTruncated = false;
      return;
    }
    if (reply.rate === "cut") this.#facts.isCut = true;
    this.#write(prepared);
    if (reply.bytes.length <= AMPLIFYING * this.#query.bytes.length || rates.takesLarge(address, monoMs)) return;
    reply.rate = "cut";
    this.#facts.isCut = true;
    this.#write(prepared);
  }

  /** Verifies the TSIG of the query. Returns the error response if the TSIG is not valid. */
  #judged(): PreparedResponse | undefined {
    const { bytes, tsigAt } = this.#query;
    const findKey = (name: string) => this.#transferKeys?.find(name);
    const judged: TsigVerdict = judgeTsig(bytes, tsigAt, { findKey, nowSeconds: Math.floor(this.#wallMs() / 1000) });
    if (judged === "malformed") return this.#failure(RCODE.FORMERR);
    const signatureBytes = tsigBytes(judged);
    const limitBytes = this.#facts.limitBytes - signatureBytes;
    // The response repeats the names of the key and the algorithm from the query. If these names are very long, the response has no room for the
    // question.
    if (limitBytes < leastResponseBytes(this.#query)) return this.#failure(RCODE.FORMERR);
    this.#signing = judged;
    this.#facts.limitBytes = limitBytes;
    this.#facts.signatureBytes = signatureBytes;
    return judged.error === TSIG_ERROR.NONE ? undefined : this.#failure(RCODE.NOTAUTH);
  }

  /** Accepts a zone transfer, or returns a response that refuses it. */
  #transfer(selected: Exclude<ViewSelection, { readonly isRefused: true }>, signing: ResponseSignature): PreparedResponse {
    const { catalog } = selected;
    const { zones, reverseZones } = this.#settings;
    const { name } = this.#query.question();
    if (!zones.includes(name) && !reverseZones.includes(name)) return this.#failure(RCODE.NOTAUTH);
    // A resolver has only the entries that it watches or has fetched, so its copy of the zone would be incomplete.
    if (catalog.remoteLookup !== undefined || !this.#mayTransfer) {
      this.#facts.extendedError = EXTENDED_ERROR.NOT_SUPPORTED;
      return this.#failure(RCODE.REFUSED);
    }
    const { index: viewIndex } = catalog.view;
    if (this.#query.type === TYPE_IXFR) {
      const { knownSerial } = this.#query;
      if (knownSerial === undefined) return this.#failure(RCODE.FORMERR);
      // A response with only the SOA means that there is nothing newer or, over UDP, that the client must retry over TCP (RFC 1995, 2). Serials are
      // compared as defined in RFC 1982.
      if (this.#transport === "udp" || ((knownSerial - this.#serialOf(viewIndex)) | 0) >= 0) {
        this.#query.askForSoa();
        return this.#planned(selected);
      }
    }
    if (this.#transferKeys?.mayBegin({ keyName: signing.keyName, zone: name, viewIndex }) !== true) return this.#failure(RCODE.REFUSED);
    const { id, bytes, questionEnd, hasEdns } = this.#query;
    const question = Uint8Array.from(bytes.subarray(HEADER_BYTES, questionEnd));
    const opt = hasEdns ? PLAIN_OPT : NO_BYTES;
    this.#reply.transfer = { id, question, opt, isPadded: this.#facts.isPadded, zone: name, signing, viewIndex };
    return this.#failure(RCODE.NOERROR);
  }

  /** Creates the cookie of the response. Returns whether the cookie of the query is valid. */
  #cookie({ address }: QuerySender): boolean {
    const { bytes, cookieAt, cookieBytes } = this.#query;
    const wallSeconds = Math.floor(this.#wallMs() / 1000);
    const isValid = this.#cookies.isValid(bytes, cookieAt, cookieBytes, address, wallSeconds);
    this.#cookies.write(bytes, cookieAt, isValid, address, wallSeconds, this.#facts.cookie, 0);
    return isValid;
  }

  #answer(select: ViewSelector, hasValidCookie: boolean, transport: DnsTransport): PreparedResponse {
    const query = this.#query;
    if (query.rcode !== RCODE.NOERROR) return this.#failure(query.rcode);
    // A query without a question requests a cookie or verifies one (RFC 7873, 5.4).
    if (!query.hasQuestion)
      return this.#failure(hasValidCookie || query.cookieBytes === COOKIE_ALONE_BYTES ? RCODE.NOERROR : RCODE.BADCOOKIE);
    this.#reply.qtype = qtypeLabel(query.type);
    let selected: ViewSelection | undefined;
    try {
      const key = this.#signing?.key;
      selected = select(query.subnet, key?.viewIndex);
      if ("isRefused" in selected) {
        this.#facts.extendedError = EXTENDED_ERROR.PROHIBITED;
        return this.#failure(RCODE.REFUSED);
      }
      const isStream = transport === "tcp" || transport === "dot";
      const isTransfer = query.type === TYPE_IXFR || (query.type === TYPE_AXFR && isStream);
      if (isTransfer && query.class === CLASS_IN && this.#signing !== undefined && transport !== "doh")
        return this.#transfer(selected, this.#signing);
      return this.#planned(selected);
    } catch (fault) {
      return this.#failed(fault, selected !== undefined);
    }
  }

  #planned(selected: Exclude<ViewSelection, { readonly isRefused: true }>): PreparedResponse {
    const query = this.#query;
    const facts = this.#facts;
    const { catalog } = selected;
    const { view } = catalog;
    catalog.remoteLookup?.begin(this.#sender.waited, this.#mayWait);
    const isSigned = this.#signer !== undefined && query.isDnssecOk;
    this.#signer?.begin(this.#transport === "udp");
    const key = query.planKey(view.index, isSigned);
    const kept = this.plans.find(key, catalog) ?? this.plans.make(key, { ...query.question(), isSigned }, catalog);
    const prepared = kept.prepared ?? this.#prepared(kept);
    facts.serial = this.#serialOf(view.index);
    // No sample is drawn, because a signature covers the complete RRset.
    facts.answerLimit = kept.signed === undefined ? view.answerLimit : undefined;
    facts.extendedError = prepared.extendedError;
    // A query with a source prefix of 0 hides its address, so its response is valid for all addresses.
    facts.scopePrefix = query.subnet === undefined || query.subnet.sourcePrefix === 0 ? 0 : (selected.scopePrefix ?? 0);
    facts.isUncached = selected.isBySubnet;
    const soa = kept.signed?.soa;
    if (soa !== undefined) facts.soaSignature = this.#soaSignature(soa, prepared.hasNegativeSoa && selected.isBySubnet);
    return prepared;
  }

  /** Returns the signature data for the SOA in the form in which it is written. `ResponseFacts.isUncached` sets the SOA minimum to 0. */
  #soaSignature(soa: RecordOf<"SOA">, isUncached: boolean): Uint8Array | undefined {
    const { serial = 0 } = this.#facts;
    return this.#signer?.soaSignature(isUncached ? { ...soa, data: { ...soa.data, minimumSeconds: 0 } } : soa, serial);
  }

  #prepared(kept: CachedPlan<PreparedResponse>): PreparedResponse {
    const { plan } = kept;
    if (this.#roomless !== undefined && this.#roomless.plan === plan) return this.#roomless.prepared;
    const { name } = this.#query.question();
    const prepared = (plan && this.#denials.prepare(plan, name)) ?? prepare(plan ?? failure(RCODE.SERVFAIL), name);
    this.plans.prepare(kept, prepared);
    if (plan !== undefined && kept.prepared === undefined) this.#roomless = { plan, prepared };
    return prepared;
  }

  /** `wasSelected` is true when the view was selected before the failure. */
  #failed(fault: unknown, wasSelected: boolean): PreparedResponse {
    if (fault instanceof SignerBusyError) return this.#busy();
    const reason = fault instanceof WaymarkError ? fault.reason : undefined;
    // The caller exceeded its limit, has no permission, or has an invalid certificate.
    const isRefusal = reason === "discovery_rate_limited" || reason === "discovery_access_denied" || reason === "unauthenticated";
    const isNotReady = reason === "not_ready";
    // An internal error of the gateway affects only this query (semantics.md, DNS). The responder's caller reports the error. `not_ready` is not an
    // internal error.
    this.#reply.fault = isRefusal || isNotReady ? undefined : fault;
    this.#reply.unknown = fault instanceof PendingNameError && this.#mayWait() ? fault : undefined;
    // TC makes the client retry over TCP, where a waiting slot may be free.
    if (isNotReady && this.#isLetWait === false && this.#bound !== undefined) return this.#busy();
    if (isNotReady) this.#facts.extendedError = wasSelected ? EXTENDED_ERROR.NO_REACHABLE_AUTHORITY : EXTENDED_ERROR.NOT_READY;
    // After SERVFAIL, a resolver queries another server or uses its cached data. A resolver would accept an empty answer as correct.
    return this.#failure(isRefusal ? RCODE.REFUSED : RCODE.SERVFAIL);
  }

  /**
   * Answers a question that exceeds a limit. Over UDP, TC makes the client retry over TCP. Part of the signing limit and of the waiting slots is
   * reserved for TCP.
   */
  #busy(): PreparedResponse {
    const isUdp = this.#transport === "udp";
    this.#facts.isCut = isUdp;
    return this.#failure(isUdp ? RCODE.NOERROR : RCODE.SERVFAIL);
  }

  #failure(rcode: Rcode): PreparedResponse {
    let prepared = this.#failures.get(rcode);
    if (prepared === undefined) {
      prepared = prepare(failure(rcode), undefined);
      this.#failures.set(rcode, prepared);
    }
    return prepared;
  }
}

/**
 * Returns whether the question can wait. Few questions can wait at a time, so each network has a rate limit for waiting, and the last slots are
 * reserved for verified addresses.
 */
function mayWait({ room, waited, address, monoMs }: QuerySender, rates: ResponseRates | undefined): boolean {
  if (waited !== undefined) return true;
  if (room === "nobody") return false;
  if (rates === undefined || rates.trusts(address)) return true;
  return room === "all" && rates.judge(address, WAITING_CLASS, monoMs) === "whole";
}

const NO_BYTES = new Uint8Array();
/** Types that are queried too rarely to have their own metric label. Every other type has its own label. */
const UNCOUNTED = { HINFO: true, DS: true, DNSKEY: true, CDS: true, CDNSKEY: true, NSEC: true, RRSIG: true } as const satisfies Record<
  Exclude<RecordType, QueryLabels["qtype"]>,
  true
>;
const COOKIE_ALONE_BYTES = 8;

function qtypeLabel(code: number): QueryLabels["qtype"] {
  if (code === TYPE_ANY) return "ANY";
  const type = findRecordType(code);
  return type === undefined || isUncounted(type) ? "other" : type;
}

function isUncounted(type: RecordType): type is keyof typeof UNCOUNTED {
  return Object.hasOwn(UNCOUNTED, type);
}

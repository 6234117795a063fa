/** Turns query bytes into response bytes: reads the query, finds its plan (plans are kept), bounds the rate of its sender, and writes the response. */
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

/** The response to a query, and what the metrics need to know of it. The responder uses the object again at its next call; the bytes stay as they are. */
export interface ResponderReply {
  /** Empty if nothing is sent. */
  readonly bytes: Uint8Array;
  /** Type and response code as the metrics name them; the type is `other` also without a question. */
  readonly qtype: QueryLabels["qtype"];
  readonly rcode: QueryLabels["rcode"];
  readonly isTruncated: boolean;
  /** `cut`: the sender is told to ask again over TCP, because it asks too often. `dropped`: it is told nothing. */
  readonly rate: "whole" | "cut" | "dropped";
  /** Our own fault behind a SERVFAIL; undefined without one. */
  readonly fault: unknown;
  /** What is being fetched for the question, if it may wait for that. If not, it is answered SERVFAIL. */
  readonly unknown: PendingNameError | undefined;
  /** The zone that is to be sent in place of the bytes. */
  readonly transfer: TransferRequest | undefined;
}

/** The keys that questions may be signed with, and what may be transferred to them. */
export interface TransferKeys {
  readonly find: (name: string) => TsigKey | undefined;
  readonly mayBegin: (asked: Omit<RequestedTransfer, "address">) => boolean;
}

export interface ResponderOptions extends PlanCacheOptions {
  /** Makes and checks server cookies. Absent: with a secret of zeros, for a responder whose cookies mean nothing. */
  readonly cookies?: ServerCookies | undefined;
  /** Bounds answers over UDP. Absent: any number. */
  readonly rates?: ResponseRates | undefined;
  /** How long a connection over TCP may be quiet, for clients that ask. */
  readonly idleTimeoutMs?: number | undefined;
  /** The serial of the zone for a view, by its index. */
  readonly serialOf: (viewIndex: number) => number;
  /** Signs answers for who wants it. Absent: nothing is signed. */
  readonly signer?: ZoneSigner | undefined;
  /** Absent: there are no keys. */
  readonly transferKeys?: TransferKeys | undefined;
  /** The wall clock, for cookies. Absent: it stands still. */
  readonly wallMs?: (() => number) | undefined;
}

/** The sender of a query, and when it came. */
export interface QuerySender {
  readonly address: string;
  readonly monoMs: number;
  /** Who may wait for what is fetched: `proved` are those whose address is no forged one. A reply that waits does not count for the sender's rate yet. */
  readonly room: "all" | "proved" | "nobody";
  /** What the question has waited for, if it was looked at before. Then it has its place. */
  readonly waited?: PendingNameError | undefined;
  /** Whether a zone may be sent over its connection. */
  readonly mayTransfer?: boolean;
}

/** Of the flags of the query: the operation, and whether recursion is desired. */
const COPIED_FLAGS = 0x7900;
/** Is repeated by who knows signatures (RFC 4035, 3.1.6). */
const CHECKING_DISABLED = 0x0010;
const NOBODY: QuerySender = { address: "", monoMs: 0, room: "all", mayTransfer: true };
const TYPE_ANY = 255;
const TYPE_AXFR = 252;
const TYPE_IXFR = 251;
/** Questions that wait count as a class of their own, beside their answers. */
const WAITING_CLASS = "~";
/** An answer over UDP of more than this many times its question shares a budget of all unverified senders. */
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
  /** What is kept of the plans. */
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
  /** The last that found no room: a name that is too large to be kept whole may be asked for again and again. */
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
  /** How the answer is signed; undefined where the query is not. */
  #signing: ResponseSignature | undefined;
  #sender = NOBODY;
  /** What bounds this sender. Undefined: nothing does, because its address is proved, or there is no rate. */
  #bound: ResponseRates | undefined;
  /** Whether the question may wait. Undefined until it is asked. */
  #isLetWait: boolean | undefined;
  readonly #mayWait = (): boolean => (this.#isLetWait ??= mayWait(this.#sender, this.#bound));

  /** `random` also draws the order of records. */
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
   * Answers one message from the view that `select` gives for the client subnet of the question, and the view of the key that signed it; undefined when the message must not be
   * answered. Never throws, whatever the bytes are and whatever the catalog does.
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
    // Tenths of a second. Over UDP it means nothing (RFC 7828, 3.2), and HTTP says such things itself.
    const hasKeepalive = query.hasKeepalive && (transport === "tcp" || transport === "dot") && this.#idleTimeoutMs !== undefined;
    facts.keepalive = hasKeepalive ? Math.min(0xffff, Math.floor((this.#idleTimeoutMs ?? 0) / 100)) : undefined;
    // What anybody can read needs no padding, and must not have it (RFC 7830, 6).
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
    // A part of a signed set is not true, and there is no larger message to ask for.
    if (!prepared.isSigned || !this.#writer.isTruncated || this.#transport === "udp") return;
    this.#reply.rcode = "SERVFAIL";
    this.#reply.bytes = this.#written(this.#failure(RCODE.SERVFAIL));
    this.#reply.isTruncated = false;
  }

  /** The message, with a signature where the query has one. */
  #written(prepared: PreparedResponse): Uint8Array {
    const bytes = this.#writer.write(this.#query, prepared, this.#facts);
    return this.#signing === undefined ? bytes : withTsig(bytes, this.#signing);
  }

  /** Above the rate every second answer says "ask again over TCP", which is no larger than the question, and the others are not sent. */
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

  /** Judges the signature of the query. Returns what the answer is if it does not count. */
  #judged(): PreparedResponse | undefined {
    const { bytes, tsigAt } = this.#query;
    const findKey = (name: string) => this.#transferKeys?.find(name);
    const judged: TsigVerdict = judgeTsig(bytes, tsigAt, { findKey, nowSeconds: Math.floor(this.#wallMs() / 1000) });
    if (judged === "malformed") return this.#failure(RCODE.FORMERR);
    const signatureBytes = tsigBytes(judged);
    const limitBytes = this.#facts.limitBytes - signatureBytes;
    // The names of key and algorithm are the sender's, and come back. Beside long ones there is no room for the question.
    if (limitBytes < leastResponseBytes(this.#query)) return this.#failure(RCODE.FORMERR);
    this.#signing = judged;
    this.#facts.limitBytes = limitBytes;
    this.#facts.signatureBytes = signatureBytes;
    return judged.error === TSIG_ERROR.NONE ? undefined : this.#failure(RCODE.NOTAUTH);
  }

  /** Grants the transfer of a zone, or says why not. */
  #transfer(selected: Exclude<ViewSelection, { readonly isRefused: true }>, signing: ResponseSignature): PreparedResponse {
    const { catalog } = selected;
    const { zones, reverseZones } = this.#settings;
    const { name } = this.#query.question();
    if (!zones.includes(name) && !reverseZones.includes(name)) return this.#failure(RCODE.NOTAUTH);
    // A resolver knows only what it was asked for, and would tell a zone with holes.
    if (catalog.remoteLookup !== undefined || !this.#mayTransfer) {
      this.#facts.extendedError = EXTENDED_ERROR.NOT_SUPPORTED;
      return this.#failure(RCODE.REFUSED);
    }
    const { index: viewIndex } = catalog.view;
    if (this.#query.type === TYPE_IXFR) {
      const { knownSerial } = this.#query;
      if (knownSerial === undefined) return this.#failure(RCODE.FORMERR);
      // The SOA alone says that there is nothing newer, and over UDP that the zone is to be asked for over TCP (RFC 1995, 2). Serials go round (RFC 1982).
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

  /** Makes the cookie of the response. Returns whether that of the query is valid. */
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
    // A cookie alone is asked for, or looked at (RFC 7873, 5.4).
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
    // A signature stands for the whole set.
    facts.answerLimit = kept.signed === undefined ? view.answerLimit : undefined;
    facts.extendedError = prepared.extendedError;
    // Who hides its whole address gets what holds for every address.
    facts.scopePrefix = query.subnet === undefined || query.subnet.sourcePrefix === 0 ? 0 : (selected.scopePrefix ?? 0);
    facts.isUncached = selected.isBySubnet;
    const soa = kept.signed?.soa;
    if (soa !== undefined) facts.soaSignature = this.#soaSignature(soa, prepared.hasNegativeSoa && selected.isBySubnet);
    return prepared;
  }

  /** The data of the signature of SOA as it is written: see `ResponseFacts.isUncached`. */
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

  /** `wasSelected`: the view was found, and what failed is the answer. */
  #failed(fault: unknown, wasSelected: boolean): PreparedResponse {
    if (fault instanceof SignerBusyError) return this.#busy();
    const reason = fault instanceof WaymarkError ? fault.reason : undefined;
    // The caller is over its limit, or may not ask at all, or its certificate does not count.
    const isRefusal = reason === "discovery_rate_limited" || reason === "discovery_access_denied" || reason === "unauthenticated";
    const isNotReady = reason === "not_ready";
    // semantics.md, DNS: a fault of the gateway affects this query only. The shell reports it; a node that is not ready is no fault.
    this.#reply.fault = isRefusal || isNotReady ? undefined : fault;
    this.#reply.unknown = fault instanceof PendingNameError && this.#mayWait() ? fault : undefined;
    // Its sender is told to ask over TCP, where there may be a place left.
    if (isNotReady && this.#isLetWait === false && this.#bound !== undefined) return this.#busy();
    if (isNotReady) this.#facts.extendedError = wasSelected ? EXTENDED_ERROR.NO_REACHABLE_AUTHORITY : EXTENDED_ERROR.NOT_READY;
    // After SERVFAIL a resolver asks another server, or keeps what it has. It would believe an empty answer.
    return this.#failure(isRefusal ? RCODE.REFUSED : RCODE.SERVFAIL);
  }

  /** Over TCP there may be a signature left, or a place. */
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

/** Whether the question may wait. Few can at a time, so those of one network are bounded, as its answers are, and the last places are for those that nobody can forge. */
function mayWait({ room, waited, address, monoMs }: QuerySender, rates: ResponseRates | undefined): boolean {
  if (waited !== undefined) return true;
  if (room === "nobody") return false;
  if (rates === undefined || rates.trusts(address)) return true;
  return room === "all" && rates.judge(address, WAITING_CLASS, monoMs) === "whole";
}

const NO_BYTES = new Uint8Array();
/** Types that are asked for too seldom for a count of their own. Each type is one of these, or a label of the metric. */
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

/** Encodes a resolver's requests to its upstream servers, and decodes their server info and the details of failed calls. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ErrorInfoSchema, RetryInfoSchema } from "../../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../../gen/google/rpc/status_pb.js";
import {
  CatalogQueryRequestSchema,
  CatalogWatchRequestSchema,
  type ServerInfoResponse,
  ServerInfoResponseSchema,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { SummaryWatchRequestSchema } from "../../../gen/waymark/discovery/v1/summary_pb.js";
import { WatchPolicyRequestSchema } from "../../../gen/waymark/policy/v1/policy_pb.js";
import type { WholeName } from "../../catalog/query/instances.ts";
import { findMessage, unpackDetail } from "../../consumer/error-details.ts";
import type { DialRemedies } from "../../grpc/client/dial-fault.ts";
import type { GrpcStatus } from "../../grpc/wire/status.ts";
import { CODES, type ErrorDetails, type ErrorReason, REASONS, WaymarkError } from "../../lib/errors.ts";
import { misplaced } from "../../lib/protowire.ts";
import type { VersionPlace } from "../../policy/versions/version.ts";
import type { UpstreamFacts } from "../../resolver/upstreams.ts";
import type { WatchRefusal } from "../../resolver/watching/prefix-refusals.ts";

/** The prefixes of a watch, and the cursor from which it begins. */
export interface WatchTarget {
  /** An empty text means all namespaces. */
  readonly prefixes: readonly string[];
  /** Empty if the watch must begin with a snapshot. */
  readonly cursor: string;
  /** Whether bookmarks include the count and the digest. */
  readonly withDigest: boolean;
}

/** Maximum number of entries per page. */
const PAGE_LIMIT = 1000;
const BOOKMARK_INTERVAL = { seconds: 1n };
/** Maximum number of policy versions that a request lists as known. */
const MAX_KNOWN = 100;
const MAX_TEXT_CHARS = 512;
/** Maximum number of names in `via` of an answer. No allowed chain has as many. */
const MAX_VIA = 100;
/** Longest retry delay that is accepted from a server, in ms. If a server requests a longer delay, it is called again after this time. */
const MAX_RETRY_MS = 60_000;

export const PATHS = {
  probe: "/waymark.discovery.v1.DiscoveryService/ServerInfo",
  watch: "/waymark.discovery.v1.DiscoveryService/CatalogWatch",
  fetch: "/waymark.discovery.v1.DiscoveryService/CatalogQuery",
  summaries: "/waymark.discovery.v1.DiscoveryService/SummaryWatch",
  policy: "/waymark.policy.v1.PolicyService/WatchPolicy",
} as const;

/** ServerInfoRequest has no fields. */
export const PROBE_REQUEST = new Uint8Array();

type WatchFields = WatchTarget & { readonly via: readonly string[] };

export function watchRequest(asked: WatchFields): Uint8Array {
  return toBinary(CatalogWatchRequestSchema, create(CatalogWatchRequestSchema, askedFields(asked)));
}

/** Encodes a watch request for the summaries below the prefixes, with the state of their source clusters. */
export function summariesRequest(asked: WatchFields): Uint8Array {
  return toBinary(SummaryWatchRequestSchema, create(SummaryWatchRequestSchema, askedFields(asked)));
}

function askedFields({ prefixes, cursor, withDigest, via }: WatchFields) {
  const options = { bookmarkInterval: BOOKMARK_INTERVAL, withDigest, via: [...via] };
  return { forResolver: true, namespacePrefixes: [...prefixes], cursor, ...options };
}

/** Encodes a query for all kinds of entries under a name. */
export function fetchRequest({ namespace, name }: WholeName, pageToken: string, via: readonly string[]): Uint8Array {
  const request = { forResolver: true, namespace, names: [name], limit: PAGE_LIMIT, pageToken, via: [...via] };
  return toBinary(CatalogQueryRequestSchema, create(CatalogQueryRequestSchema, request));
}

export function policyRequest(known: readonly VersionPlace[], via: readonly string[]): Uint8Array {
  const places = known.slice(0, MAX_KNOWN).map(wirePlace);
  return toBinary(WatchPolicyRequestSchema, create(WatchPolicyRequestSchema, { known: places, via: [...via] }));
}

function wirePlace({ number, hlc, nodeId, checksum }: VersionPlace) {
  return { number: BigInt(number), hlc: BigInt(hlc), nodeId, checksum };
}

/** Decodes the answer to a probe. Throws `invalid_argument` for malformed bytes. */
export function readFacts(bytes: Uint8Array): UpstreamFacts {
  const { clusterId, region, via } = decoded(bytes);
  if (clusterId === "" || via.length > MAX_VIA)
    throw misplaced(`the server info has no cluster_id, or has more than ${MAX_VIA} names in via`);
  return { clusterId, region, via };
}

function decoded(bytes: Uint8Array): ServerInfoResponse {
  try {
    return fromBinary(ServerInfoResponseSchema, bytes);
  } catch (error) {
    throw misplaced(error instanceof Error ? error.message : "invalid ServerInfoResponse");
  }
}

/** The error if an upstream refuses the resolver's own credential. `text` is the message without the reason, which the upstream did not send. */
export class CredentialRefusal extends WaymarkError {
  readonly text: string;

  constructor(text: string, details: ErrorDetails) {
    super("not_ready", text, details);
    this.text = text;
  }
}

/** The settings to change after a failed connection to an upstream. */
export const UPSTREAM_REMEDIES: DialRemedies = {
  notTls: "remove resolver.tls_ca_file (and resolver.tls), or set tls.cert_file on that server",
  untrusted: "resolver.tls_ca_file must contain the CA that signed it",
  rejected: "resolver.tls_cert_file must name a certificate that the server trusts (tls.ca_file)",
};

/**
 * Returns the error that a caller of the resolver gets if a call to an upstream failed. If the upstream rejected the resolver's own credential or
 * limited its rate, the caller did nothing wrong and gets `not_ready`. `isFromServer` is true if the server sent the status itself.
 */
export function refusalOf(upstream: string, { code, message, details }: GrpcStatus, isFromServer: boolean): WaymarkError {
  const parsed = readDetails(details);
  const retry = parsed.retryMs === undefined ? {} : { retryMs: parsed.retryMs };
  const text = textOf(message, parsed.reason);
  if (code === CODES.DEADLINE_EXCEEDED)
    return new WaymarkError("deadline_exceeded", `the upstream ${upstream} did not answer in time`, retry);
  const metadata = parsed.urls === undefined ? {} : { metadata: { urls: parsed.urls } };
  if (isFromServer && parsed.reason !== undefined && PASSED_ON.has(parsed.reason))
    return new WaymarkError(parsed.reason, text, { ...retry, ...metadata });
  const isRefused = isFromServer && (parsed.reason === "unauthenticated" || parsed.reason === "discovery_access_denied");
  if (isRefused) return new CredentialRefusal(`the upstream ${upstream} refuses this resolver: ${parsed.reason}: ${text}`, retry);
  return new WaymarkError("not_ready", `the upstream ${upstream} sent no answer: ${text}`, retry);
}

/**
 * Returns why a server refused the watched prefixes, according to the status with which it ended the watch. Undefined if the watch failed for another
 * reason.
 */
export function watchRefusalOf({ code, details }: GrpcStatus): WatchRefusal | undefined {
  if (code === CODES.PERMISSION_DENIED) return "access";
  if (code === CODES.RESOURCE_EXHAUSTED) return readDetails(details).reason === "quota_exceeded" ? "prefix" : undefined;
  return code === CODES.NOT_FOUND || code === CODES.INVALID_ARGUMENT ? "prefix" : undefined;
}

/** Reasons that concern the request or the state of the mesh, and do not depend on the caller. The resolver forwards these reasons to callers. */
const PASSED_ON: ReadonlySet<ErrorReason> = new Set<ErrorReason>([
  // These two reasons occur only when the resolver registers itself.
  "lease_not_found",
  "read_only",
  "invalid_argument",
  "not_found",
  "not_ready",
  "too_stale",
  "draining",
  "store_unavailable",
  "unimplemented",
]);

interface StatusDetails {
  readonly reason: ErrorReason | undefined;
  readonly retryMs: number | undefined;
  /** Addresses of nodes, sent by a resolver that rejects writes. */
  readonly urls: string | undefined;
}

/** Decodes the error details. Details that cannot be decoded are ignored, because the code still identifies the failure. */
function readDetails(bytes: Uint8Array | undefined): StatusDetails {
  let reason: ErrorReason | undefined;
  let retryMs: number | undefined;
  let urls: string | undefined;
  for (const detail of findMessage(bytes, StatusSchema)?.details ?? []) {
    const info = unpackDetail(detail, ErrorInfoSchema);
    if (info?.domain === "waymark") [reason, urls] = [reasonOf(info.reason), info.metadata["urls"]];
    const delay = unpackDetail(detail, RetryInfoSchema)?.retryDelay;
    if (delay !== undefined) retryMs = Math.min(MAX_RETRY_MS, Math.max(0, Number(delay.seconds) * 1000 + Math.round(delay.nanos / 1e6)));
  }
  return { reason, retryMs, urls };
}

function reasonOf(text: string): ErrorReason | undefined {
  const name = text.toLowerCase();
  return Object.hasOwn(REASONS, name) ? (name as ErrorReason) : undefined;
}

/** Returns the message of a status without the reason at its beginning. */
function textOf(message: string, reason: ErrorReason | undefined): string {
  const text = reason !== undefined && message.startsWith(`${reason}: `) ? message.slice(reason.length + 2) : message;
  return text.slice(0, MAX_TEXT_CHARS).toWellFormed();
}

/** What a resolver asks its upstream servers, as bytes, and what they say about themselves and about a call that failed. */
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
import type { GrpcStatus } from "../../grpc/wire/status.ts";
import { CODES, type ErrorReason, REASONS, WaymarkError } from "../../lib/errors.ts";
import { misplaced } from "../../lib/protowire.ts";
import type { VersionPlace } from "../../policy/versions/version.ts";
import type { UpstreamFacts } from "../../resolver/upstreams.ts";
import type { WatchRefusal } from "../../resolver/watching/refusals.ts";

/** What to follow at a server, and from where. */
export interface WatchTarget {
  /** An empty text stands for all namespaces. */
  readonly prefixes: readonly string[];
  /** Empty for a snapshot. */
  readonly cursor: string;
  /** Whether bookmarks are to have count and digest. */
  readonly withDigest: boolean;
}

/** Most entries of a page. */
const PAGE_LIMIT = 1000;
const BOOKMARK_INTERVAL = { seconds: 1n };
/** Most versions that a request names as known. */
const MAX_KNOWN = 100;
const MAX_TEXT_CHARS = 512;
/** More than any chain may have. */
const MAX_VIA = 100;
/** A server that asks for a longer pause is asked again all the same. */
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

/** For the summaries below the prefixes, with what is held of their clusters. */
export function summariesRequest(asked: WatchFields): Uint8Array {
  return toBinary(SummaryWatchRequestSchema, create(SummaryWatchRequestSchema, askedFields(asked)));
}

function askedFields({ prefixes, cursor, withDigest, via }: WatchFields) {
  const options = { bookmarkInterval: BOOKMARK_INTERVAL, withDigest, via: [...via] };
  return { forResolver: true, namespacePrefixes: [...prefixes], cursor, ...options };
}

/** For the entries of a name, of all kinds. */
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

/** Reads the answer to a probe. Throws `invalid_argument` for bytes that no server of ours can have sent. */
export function readFacts(bytes: Uint8Array): UpstreamFacts {
  const { clusterId, region, via } = decoded(bytes);
  if (clusterId === "" || via.length > MAX_VIA) throw misplaced("a server that names no cluster, or too many resolvers");
  return { clusterId, region, via };
}

function decoded(bytes: Uint8Array): ServerInfoResponse {
  try {
    return fromBinary(ServerInfoResponseSchema, bytes);
  } catch (error) {
    throw misplaced(error instanceof Error ? error.message : "no answer of ServerInfo");
  }
}

/**
 * What a caller of the resolver is told of a call to an upstream that failed. Where the upstream refused the resolver itself, for its credential or its rate, the
 * caller did nothing wrong: it learns that the resolver is not ready. `isSaid`: the server sent the status itself.
 */
export function refusalOf(upstream: string, { code, message, details }: GrpcStatus, isSaid: boolean): WaymarkError {
  const said = readDetails(details);
  const retry = said.retryMs === undefined ? {} : { retryMs: said.retryMs };
  const text = textOf(message, said.reason);
  if (code === CODES.DEADLINE_EXCEEDED)
    return new WaymarkError("deadline_exceeded", `the upstream ${upstream} did not answer in time`, retry);
  const metadata = said.urls === undefined ? {} : { metadata: { urls: said.urls } };
  if (isSaid && said.reason !== undefined && PASSED_ON.has(said.reason))
    return new WaymarkError(said.reason, text, { ...retry, ...metadata });
  const isRefused = isSaid && (said.reason === "unauthenticated" || said.reason === "discovery_access_denied");
  const outcome = isRefused ? `refuses this resolver: ${said.reason}` : "gave no answer";
  return new WaymarkError("not_ready", `the upstream ${upstream} ${outcome}: ${text}`, retry);
}

/** What a server means that ended a watch: that it will not tell of what was asked for, or, where undefined, that it failed. */
export function watchRefusalOf({ code, details }: GrpcStatus): WatchRefusal | undefined {
  if (code === CODES.PERMISSION_DENIED) return "access";
  if (code === CODES.RESOURCE_EXHAUSTED) return readDetails(details).reason === "quota_exceeded" ? "prefix" : undefined;
  return code === CODES.NOT_FOUND || code === CODES.INVALID_ARGUMENT ? "prefix" : undefined;
}

/** Reasons that are about the request, or about the state of the mesh, whoever asks. */
const PASSED_ON: ReadonlySet<ErrorReason> = new Set<ErrorReason>([
  // Of these two only the registration of the resolver itself hears.
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
  /** Where a resolver that takes no writes says that nodes are. */
  readonly urls: string | undefined;
}

/** Details that do not decode are ignored, because the code still names the failure. */
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

/** The words of a status without the reason before them. */
function textOf(message: string, reason: ErrorReason | undefined): string {
  const text = reason !== undefined && message.startsWith(`${reason}: `) ? message.slice(reason.length + 2) : message;
  return text.slice(0, MAX_TEXT_CHARS).toWellFormed();
}

/** Whose rights a ResolveName has, and which place: those of its caller, or those that the DNS gateway gives to an asker at some address. */
import type { Viewer } from "../../../gen/waymark/catalog/v1/viewer_pb.js";
import type { NameSource, ResolveNameRequest } from "../../../gen/waymark/dns/v1/dns_pb.js";
import type { DnsView } from "../../dns/subject/subject.ts";
import type { QueryClient } from "../../dns/views/query-client.ts";
import type { DnsViews, ViewerOfView } from "../../dns/views/views.ts";
import { parseAddress } from "../../lib/addresses.ts";
import { assert, invalid } from "../../lib/errors.ts";
import { type Caller, demandRole, hasRole, viewerOf } from "../../policy/identity/caller.ts";

/** Who asks, as far as `dns.views` looks at it. */
export type NameCaller = Pick<QueryClient, "address" | "transport">;

export interface QuestionRightsParts {
  /** Who sees what at the gateway, in the order of the views' indices, and which of them an asker has. */
  readonly viewers: readonly ViewerOfView[];
  readonly views: Pick<DnsViews, "choose">;
  /** Whether a source without a view may ask nothing. */
  readonly isAnonymousRefused: boolean;
  readonly allowsViewerOverride: boolean;
}

/** Whose rights a question has, and what its address adds to them. */
export interface QuestionRights {
  readonly nameCaller: NameCaller;
  /** Whether that is the caller at its own address, which asks over gRPC or HTTP. */
  readonly isCallers: boolean;
  /** The view that the address has. Its index says whose serial is told: callers with rights of their own are told that of anonymous ones. */
  readonly view: DnsView;
  /** Which of `dns.views` that is, from 1 on; 0 for none of them. */
  readonly row: number;
  readonly viewer: Caller;
  readonly isRefused: boolean;
}

/**
 * As the gateway does with callers that show a credential over TLS: the rights are those of the caller, or of the viewer that it names, and the place is that of the
 * address. A source without a viewer has the rights of its view.
 */
export function questionRightsOf(
  parts: QuestionRightsParts,
  { viewer: named, source }: ResolveNameRequest,
  caller: Caller,
): QuestionRights {
  const own = viewerFor(caller, named, parts.allowsViewerOverride);
  if (source !== undefined) demandRole(caller, "mesh.operate", ": an answer as from another address is asked for");
  const nameCaller = source === undefined ? ({ address: caller.address, transport: "dot" } as const) : parseSource(source);
  const row = parts.views.choose({ ...nameCaller, subnet: undefined }).index;
  const viewer = parts.viewers[row];
  assert(viewer !== undefined, "each view has a viewer");
  const { view } = viewer;
  const of = { nameCaller, isCallers: source === undefined, row };
  if (source === undefined || isNamed(named)) return { ...of, view: { ...view, index: 0 }, viewer: own, isRefused: false };
  const { tenant, cluster } = viewer.caller;
  return { ...of, view, viewer: { ...caller, tenant, cluster }, isRefused: row === 0 && parts.isAnonymousRefused };
}

const LISTENERS: Readonly<Record<QueryClient["transport"], true>> = { udp: true, tcp: true, dot: true, doh: true };

function isListener(text: string): text is QueryClient["transport"] {
  return Object.hasOwn(LISTENERS, text);
}

/** Throws `invalid_argument`. */
function parseSource({ address, listener }: NameSource): NameCaller {
  if (parseAddress(address) === undefined) throw invalid("source.address", "is not an IPv4 or IPv6 address");
  if (listener === "") return { address, transport: "udp" };
  if (!isListener(listener)) throw invalid("source.listener", `is not one of ${Object.keys(LISTENERS).join(", ")}`);
  return { address, transport: listener };
}

function isNamed(asked: Viewer | undefined): asked is Viewer {
  return asked !== undefined && (asked.clusterId !== "" || asked.tenantId !== "");
}

/** The viewer that a request may use: the caller itself, or the one that it names. */
function viewerFor(caller: Caller, asked: Viewer | undefined, allowsOverride: boolean): Caller {
  if (!isNamed(asked)) return caller;
  const wanted = { ...caller, cluster: asked.clusterId || caller.cluster, tenant: asked.tenantId || caller.tenant };
  const isOwn = wanted.cluster === caller.cluster && wanted.tenant === caller.tenant;
  if (isOwn || hasRole(caller, "mesh.operate")) return wanted;
  const allowed = viewerOf(caller, asked, allowsOverride);
  if (allowed === caller) demandRole(caller, "mesh.operate", ": the view of another is asked for");
  return allowed;
}

/** The view in words. */
export function viewWords({ nameCaller, isCallers, view, row, viewer, isRefused }: QuestionRights): string {
  const { locality, answerLimit } = view;
  const from = `${nameCaller.address}${isCallers ? ", as" : ""} over ${nameCaller.transport}: ${row === 0 ? "no row of dns.views" : `dns.views[${row - 1}]`}`;
  if (isRefused) return `${from}; a source without a view is refused`;
  const place = locality === undefined ? "" : `, region ${locality.region}${locality.zone === "" ? "" : `, zone ${locality.zone}`}`;
  const limit = answerLimit === undefined ? "" : `, at most ${answerLimit} records of a set`;
  return `cluster ${viewer.cluster}, ${viewer.tenant === "" ? "no tenant" : `tenant ${viewer.tenant}`}${place}${limit}; from ${from}`;
}

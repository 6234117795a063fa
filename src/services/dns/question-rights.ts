/** Determines the rights and the locality of a ResolveName call, either from its caller or from the view that the DNS gateway uses for an address. */
import type { Viewer } from "../../../gen/waymark/catalog/v1/viewer_pb.js";
import type { NameSource, ResolveNameRequest } from "../../../gen/waymark/dns/v1/dns_pb.js";
import type { DnsView } from "../../dns/subject/subject.ts";
import type { QueryClient } from "../../dns/views/query-client.ts";
import type { DnsViews, ViewerOfView } from "../../dns/views/views.ts";
import { parseAddress } from "../../lib/addresses.ts";
import { assert, invalid } from "../../lib/errors.ts";
import { type Caller, demandRole, hasRole, viewerOf } from "../../policy/identity/caller.ts";

/** The properties of a client that `dns.views` uses. */
export type NameCaller = Pick<QueryClient, "address" | "transport">;

export interface QuestionRightsParts {
  /** The viewers of the gateway, by the index of their view. `views` chooses the view for a client. */
  readonly viewers: readonly ViewerOfView[];
  readonly views: Pick<DnsViews, "choose">;
  /** Whether queries from a source without a view are refused. */
  readonly isAnonymousRefused: boolean;
  readonly allowsViewerOverride: boolean;
}

/** The rights of a query and the view of its address. */
export interface QuestionRights {
  readonly nameCaller: NameCaller;
  /** Whether the query has the rights of the caller itself, which uses gRPC or HTTP. */
  readonly isCallers: boolean;
  /**
   * The view of the address. The index of the view selects the serial in the answer. Callers with their own rights get the serial for anonymous
   * callers.
   */
  readonly view: DnsView;
  /** The number of the matching row in `dns.views`, starting from 1. The number is 0 if no row matches. */
  readonly row: number;
  readonly viewer: Caller;
  readonly isRefused: boolean;
}

/**
 * Does the same as the gateway does for callers with a credential over TLS: the rights come from the caller, or from the viewer that the caller
 * names, and the locality comes from the address. A source without a viewer has the rights of its view.
 */
export function questionRightsOf(
  parts: QuestionRightsParts,
  { viewer: named, source }: ResolveNameRequest,
  caller: Caller,
): QuestionRights {
  const own = viewerFor(caller, named, parts.allowsViewerOverride);
  if (source !== undefined) demandRole(caller, "mesh.operate", " to resolve a name for another address (source)");
  const nameCaller = source === undefined ? ({ address: caller.address, transport: "dot" } as const) : parseSource(source);
  const row = parts.views.choose({ ...nameCaller, subnet: undefined }).index;
  const viewer = parts.viewers[row];
  assert(viewer !== undefined, "a view has no viewer");
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
  if (parseAddress(address) === undefined)
    throw invalid("source.address", `must be an IPv4 or IPv6 address, got ${JSON.stringify(address.slice(0, 64))}`);
  if (listener === "") return { address, transport: "udp" };
  if (!isListener(listener))
    throw invalid("source.listener", `must be one of ${Object.keys(LISTENERS).join(", ")}, got ${JSON.stringify(listener.slice(0, 64))}`);
  return { address, transport: listener };
}

function isNamed(asked: Viewer | undefined): asked is Viewer {
  return asked !== undefined && (asked.clusterId !== "" || asked.tenantId !== "");
}

/** Returns the viewer that a request may use: the caller itself, or the viewer that the request names. */
function viewerFor(caller: Caller, asked: Viewer | undefined, allowsOverride: boolean): Caller {
  if (!isNamed(asked)) return caller;
  const wanted = { ...caller, cluster: asked.clusterId || caller.cluster, tenant: asked.tenantId || caller.tenant };
  const isOwn = wanted.cluster === caller.cluster && wanted.tenant === caller.tenant;
  if (isOwn || hasRole(caller, "mesh.operate")) return wanted;
  const allowed = viewerOf(caller, asked, allowsOverride);
  if (allowed === caller) demandRole(caller, "mesh.operate", " to use the view of another viewer");
  return allowed;
}

/** Describes the view in the form that explanations use. */
export function viewWords({ nameCaller, isCallers, view, row, viewer, isRefused }: QuestionRights): string {
  const { locality, answerLimit } = view;
  const matched = row === 0 ? "no row in dns.views" : `dns.views[${row - 1}]`;
  const from = `source ${nameCaller.address} (${isCallers ? "as a query over DNS over TLS" : `over ${nameCaller.transport}`}) matches ${matched}`;
  if (isRefused) return `${from}; sources without a view are refused`;
  const place = locality === undefined ? "" : `, region ${locality.region}${locality.zone === "" ? "" : `, zone ${locality.zone}`}`;
  const limit = answerLimit === undefined ? "" : `, at most ${answerLimit} records per set`;
  const all = viewer.hasOperatorView === true ? "operator's view, from which policy hides nothing; " : "";
  return `${all}cluster ${viewer.cluster}, ${viewer.tenant === "" ? "no tenant" : `tenant ${viewer.tenant}`}${place}${limit}; ${from}`;
}

/** Chooses the view for a DNS client by its address, or by the credential that it presented over TLS or HTTP. */
import { anonymousAccess } from "../../config/exposure.ts";
import type { Settings } from "../../config/settings.ts";
import type { PendingNameError, RemoteLookups } from "../../dns/subject/remote-lookup.ts";
import { type DnsSources, dnsCatalog } from "../../dns/views/catalog.ts";
import { CredentialViews, MAX_FETCHING_VIEWS } from "../../dns/views/credential-views.ts";
import { onlyView, type QueryClient, type ViewSelection } from "../../dns/views/query-client.ts";
import type { DnsViews, ViewerOfView } from "../../dns/views/views.ts";
import type { Time } from "../../lib/machine.ts";
import { anonymousCaller, type Caller } from "../../policy/identity/caller.ts";
import type { ConnectionPeer } from "../../policy/identity/tenants.ts";
import type { NodeLimits } from "../limits.ts";

/** Like `CallerIdentities`: finds the caller by the headers and the certificate of the request. DNS requests have no headers. */
interface CallerTable {
  readonly identify: (header: (name: string) => string | undefined, peer: ConnectionPeer) => Caller | Promise<Caller>;
}

export interface DnsSelectionOptions extends Omit<DnsSources, "remoteLookup"> {
  readonly settings: Settings;
  readonly limits: Pick<NodeLimits, "admitDns" | "noteHidden">;
  /** Identifies callers by their client certificates for DNS over TLS. Absent without DNS over TLS. */
  readonly identities?: CallerTable | undefined;
  /** Throws `not_ready` while DNS queries must not be answered. */
  readonly checkCaughtUp: () => void;
  /** Lookups that a resolver sends to other clusters, by class of viewers. Absent on a node. */
  readonly remoteLookups?: RemoteLookups | undefined;
  readonly now: () => Time;
  readonly random: () => number;
}

const REFUSED = { isRefused: true } as const;

const BY_KEY = { scopePrefix: undefined, isBySubnet: false } as const;

type Selection = (queryClient: QueryClient, waited: PendingNameError | undefined) => ViewSelection;

/** Selects the catalog for a client. Each view has one catalog, so cached answers are shared by all clients of the view. */
export function dnsSelection(options: DnsSelectionOptions, viewers: readonly ViewerOfView[], views: DnsViews): Selection {
  const { settings, identity, random, now, checkCaughtUp, remoteLookups, limits } = options;
  const { admitDns } = limits;
  const { clusterId } = identity;
  const isAnonymousRefused = anonymousAccess(settings) === "none";
  // Set while a query is being answered, within one turn of the event loop.
  let address = "";
  let known: Caller | undefined;
  const open = (viewer: ViewerOfView) => {
    const onHidden = (namespaces: readonly string[]) => limits.noteHidden(known ?? viewer.caller, address, namespaces);
    return dnsCatalog(random, { ...options, remoteLookup: remoteLookups?.of(viewer.caller) }, onHidden, viewer);
  };
  const selected = viewers.map((viewer) => onlyView(open(viewer)));
  const credentialed = new CredentialViews(viewers.length, open, remoteLookups && MAX_FETCHING_VIEWS);
  return (queryClient, waited) => {
    const { keyView } = queryClient;
    const { index, scopePrefix, isBySubnet } = keyView === undefined ? views.choose(queryClient) : { ...BY_KEY, index: keyView };
    // The TSIG key takes precedence over any certificate.
    const caller = keyView === undefined ? (queryClient.caller ?? certifiedCaller(options, queryClient)) : undefined;
    const own = selected[index];
    if (own === undefined || (index === 0 && isAnonymousRefused && caller === undefined)) return REFUSED;
    checkCaughtUp();
    ({ address } = queryClient);
    const hasOwnView = caller !== undefined && (caller.tenant !== "" || caller.cluster !== clusterId);
    known = hasOwnView ? caller : undefined;
    // The limit applies only to TCP and TLS. Over UDP, clients with forged source addresses could fill its table of keys. For DNS over HTTP, the HTTP
    // listener has already applied the limit.
    if (waited === undefined && (queryClient.transport === "tcp" || queryClient.transport === "dot"))
      admitDns?.(caller ?? anonymousCaller(clusterId, address), now().monoMs);
    const catalog = hasOwnView ? credentialed.find(caller, own.catalog.view) : own.catalog;
    return hasOwnView || isBySubnet ? { catalog, scopePrefix, isBySubnet } : own;
  };
}

/**
 * Returns the caller that a certificate identifies. Undefined without a certificate, or if certificates do not identify callers. Throws
 * `unauthenticated` for an invalid one.
 */
function certifiedCaller({ identities }: DnsSelectionOptions, { address, certificate }: QueryClient): Caller | undefined {
  if (certificate === undefined || identities === undefined) return undefined;
  const caller = identities.identify(() => undefined, { address, certificate });
  // Only new tokens are verified asynchronously, and DNS has no tokens.
  return caller instanceof Promise || !caller.isAuthenticated ? undefined : caller;
}

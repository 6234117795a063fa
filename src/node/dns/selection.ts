/** Chooses what the asker of a DNS question sees: the view of its address, or of the credential that it showed over TLS or HTTP. */
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

/** As `Identities`: finds the caller of a request, also by its headers, of which DNS has none. */
interface CallerTable {
  readonly identify: (header: (name: string) => string | undefined, peer: ConnectionPeer) => Caller | Promise<Caller>;
}

export interface DnsSelectionOptions extends Omit<DnsSources, "remoteLookup"> {
  readonly settings: Settings;
  readonly limits: Pick<NodeLimits, "admitDns" | "noteHidden">;
  /** Knows callers by the certificates that they show over TLS. Absent where there is no DNS over TLS. */
  readonly identities?: CallerTable | undefined;
  /** Throws `not_ready` while DNS questions may not be answered. */
  readonly checkCaughtUp: () => void;
  /** What a resolver knows elsewhere, by class of viewers. Absent at a node. */
  readonly remoteLookups?: RemoteLookups | undefined;
  readonly now: () => Time;
  readonly random: () => number;
}

const REFUSED = { isRefused: true } as const;

const BY_KEY = { scopePrefix: undefined, isBySubnet: false } as const;

type Selection = (queryClient: QueryClient, waited: PendingNameError | undefined) => ViewSelection;

/** Who sees what. One catalog for each view, so that answers are kept for all who have it. */
export function dnsSelection(options: DnsSelectionOptions, viewers: readonly ViewerOfView[], views: DnsViews): Selection {
  const { settings, identity, random, now, checkCaughtUp, remoteLookups, limits } = options;
  const { admitDns } = limits;
  const { clusterId } = identity;
  const isAnonymousRefused = anonymousAccess(settings) === "none";
  // Set while a question is answered, in one turn.
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
    // The key counts, whatever certificate comes with it.
    const caller = keyView === undefined ? (queryClient.caller ?? certifiedCaller(options, queryClient)) : undefined;
    const own = selected[index];
    if (own === undefined || (index === 0 && isAnonymousRefused && caller === undefined)) return REFUSED;
    checkCaughtUp();
    ({ address } = queryClient);
    const hasOwnView = caller !== undefined && (caller.tenant !== "" || caller.cluster !== clusterId);
    known = hasOwnView ? caller : undefined;
    // A key of a limit for an address that may be forged would be a stranger's to fill.
    // The HTTP listener has taken a token already.
    if (waited === undefined && (queryClient.transport === "tcp" || queryClient.transport === "dot"))
      admitDns?.(caller ?? anonymousCaller(clusterId, address), now().monoMs);
    const catalog = hasOwnView ? credentialed.find(caller, own.catalog.view) : own.catalog;
    return hasOwnView || isBySubnet ? { catalog, scopePrefix, isBySubnet } : own;
  };
}

/** The caller that a certificate names; undefined without one, and where certificates name nobody. Throws `unauthenticated` for one that does not count. */
function certifiedCaller({ identities }: DnsSelectionOptions, { address, certificate }: QueryClient): Caller | undefined {
  if (certificate === undefined || identities === undefined) return undefined;
  const caller = identities.identify(() => undefined, { address, certificate });
  // Only a token that was not seen before takes time, and there is none.
  return caller instanceof Promise || !caller.isAuthenticated ? undefined : caller;
}

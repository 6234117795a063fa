/** Opens everything about certificates and callers' tokens on a node: its own certificate, the authority if it is an issuer, and the copy of revocations. */
import { randomBytes } from "node:crypto";
import { Authority } from "../../control/identity/authority.io.ts";
import { CallerTokens } from "../../control/identity/caller-tokens.io.ts";
import type { RotationState } from "../../control/identity/rotation.ts";
import { TrustCopy } from "../../control/identity/trust.ts";
import { isListed } from "../../fabric/membership/members.ts";
import type { Metrics } from "../../lib/metrics/metrics.ts";
import { draws } from "../../lib/rng.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import type { BootstrapParts, IdentityOperation } from "../../services/identity/bootstrap.ts";
import type { CredentialParts } from "../../services/identity/credentials.ts";
import type { ControlStore } from "../../store/control/store.ts";
import type { CallerIdentities } from "../callers.io.ts";
import type { NodeComponents } from "../components.io.ts";
import { countIdentity } from "../metrics.ts";
import type { NodeCore } from "../rooms.io.ts";
import { type NodeOptions, tick } from "../starting.io.ts";
import type { WorkerGroups } from "../workers/worker-groups.io.ts";
import { attest } from "./attestation.io.ts";
import { JoinEndpoint } from "./join-endpoint.io.ts";
import { type NodeCertificate, openNodeCertificate } from "./node-certificate.io.ts";
import { SpireSource } from "./spire.io.ts";
import { NodeTrust } from "./trust.io.ts";

export interface NodeIdentityParts {
  /** Undefined if the certificate does not come from an issuer. */
  readonly certificate: NodeCertificate | undefined;
  /** Undefined if the node uses neither such a certificate nor managed tokens. */
  readonly trust: NodeTrust | undefined;
  /** Undefined if this node is no issuer. */
  readonly joinEndpoint: JoinEndpoint | undefined;
  readonly bootstrap: Pick<BootstrapParts & CredentialParts, "authority" | "copy" | "tokens">;
}

/** Opens the certificate of a node or resolver, and its copy of revocations. `store` is the control store of a node, if it reads the copy there. */
export async function openFollower(
  options: NodeOptions,
  metrics: Metrics,
  parts: NodeComponents,
  storeOf: (certificate: NodeCertificate | undefined) => ControlStore | undefined = () => undefined,
): Promise<Pick<NodeIdentityParts, "certificate" | "trust"> & { readonly spire: SpireSource | undefined }> {
  const { settings } = options;
  const log = options.log.child("identity");
  const random = draws((bytes) => crypto.getRandomValues(bytes));
  const openOwn = () => openNodeCertificate({ settings, log, metrics, random });
  const certificate = await parts.open("certificate", openOwn, (opened) => opened ?? {});
  const openSpire = () => new SpireSource({ settings, log, random });
  const spire = settings.identity.source === "spire" ? await parts.open("spire", openSpire, (opened) => opened) : undefined;
  const { managed: isManaged, default: defaultTenant = "" } = settings.tenants;
  const store = storeOf(certificate);
  const given = {
    clusterId: settings.node.clusterId,
    store,
    directory: certificate?.directory,
    isManaged,
    defaultTenant,
    log,
    metrics,
    random,
  };
  const isNeeded = certificate !== undefined || (isManaged && store !== undefined);
  const openTrust = () => (isNeeded ? new NodeTrust(given) : undefined);
  return { certificate, spire, trust: await parts.open("trust", openTrust, (opened) => opened ?? {}) };
}

export async function openIdentityParts(
  options: NodeOptions,
  { core, controlStore }: { readonly core: NodeCore; readonly controlStore: ControlStore },
  parts: NodeComponents,
): Promise<NodeIdentityParts> {
  const { settings } = options;
  const { metrics } = core;
  const log = options.log.child("identity");
  const storeOf = (own: NodeCertificate | undefined) =>
    own === undefined || own.issuer !== undefined || settings.store.kind === "etcd" ? controlStore : undefined;
  const { certificate, trust } = await openFollower(options, metrics, parts, storeOf);
  const { leafTtlMs, renewAfterEndMs } = settings.identity;
  const issuer = certificate?.issuer;
  const rotation = () => rotationState(core, trust);
  const authority = issuer && new Authority({ store: controlStore, issuer, leafTtlMs, renewAfterEndMs, attest, rotation });
  certificate?.setAuthority(authority);
  const store = storeOf(certificate);
  // An issuer serves only clients with such a certificate.
  if (certificate !== undefined) trust?.followOthers(() => issuersOfOthers(core));
  const tokens = store && settings.tenants.managed ? new CallerTokens(store, randomBytes) : undefined;
  return {
    certificate,
    trust,
    joinEndpoint:
      authority &&
      trust &&
      new JoinEndpoint({
        core,
        authority,
        trust,
        tick,
        log,
        settings,
        onOperation: (caller, operation) => noteJoin(core, caller, operation),
        onRequest: (kind, problem) => countIdentity(metrics, kind, problem),
      }),
    bootstrap: { authority, tokens, copy: trust?.copy ?? new TrustCopy(settings.node.clusterId) },
  };
}

/** Records a request of a newcomer. Strangers can be refused often, so there is at most one record of a refusal per second and caller. */
function noteJoin({ accessLog, limits }: NodeCore, caller: Caller, operation: IdentityOperation): void {
  const { action, refusal: reason, detail } = operation;
  if (reason === "") accessLog.onIdentity(caller, operation);
  else limits.note({ caller, action, namespace: "", reason, detail });
}

/** The published roots, and the live nodes of the cluster. */
function rotationState({ machine, identity }: NodeCore, trust: NodeTrust | undefined): RotationState {
  const all = machine.fabric?.membership.members() ?? [];
  const live = all.filter(({ status, clusterId }) => isListed(status) && clusterId === identity.clusterId);
  return { published: trust?.copy.rootIds ?? [], members: machine.readiness.isReady ? live : undefined };
}

/** The addresses of the issuers of each other cluster in the fabric: the members that have issued the certificates of others. */
function issuersOfOthers({ machine, identity }: NodeCore): ReadonlyMap<string, readonly string[]> {
  const all = machine.fabric?.membership.members() ?? [];
  const others = all.filter(
    ({ status, clusterId, security }) => isListed(status) && clusterId !== identity.clusterId && security?.source === "mesh",
  );
  const issuers = new Set(others.map(({ clusterId, security }) => `${clusterId}/${security?.issuer}`));
  const found = others.filter(({ clusterId, nodeId }) => issuers.has(`${clusterId}/${nodeId}`));
  return new Map(
    [...Map.groupBy(found, ({ clusterId }) => clusterId)].map(([clusterId, nodes]) => [clusterId, nodes.map(({ address }) => address)]),
  );
}

/** Applies each change of revocations and callers' tokens to callers, open streams and this node's certificate. */
export function followTrust(
  { certificate, trust, joinEndpoint }: NodeIdentityParts,
  identities: CallerIdentities,
  workerGroups: WorkerGroups,
): void {
  if (trust === undefined) return;
  const apply = () => {
    identities.setManaged(trust.managed);
    workerGroups.setManaged(trust.managed);
    joinEndpoint?.checkStreams();
    certificate?.heed(trust.copy);
  };
  apply();
  trust.follow(apply);
}

/**
 * Decides whether the node at the other end of a border link is one of a border that the settings name. Both sides ask this. What passes here is
 * a neighbour and no more: it is neither a member nor let in by any other way (`links/peer-auth.ts`).
 */
import { equalSecrets } from "../../lib/crypto.ts";
import type { ClusterLocation } from "../links/foreign-peers.ts";
import { commonVersion, type PeerRefusal, PROTOCOL_VERSIONS } from "../links/peer-auth.ts";
import type { Hello, PeerIdentity } from "../wire/messages.ts";
import type { Border } from "./border.ts";

/** The border of a hello, or why there is none. */
export function admitted(
  hello: Hello,
  identity: PeerIdentity,
  borders: ReadonlyMap<string, Border>,
  here: ClusterLocation,
): { readonly border: Border } | { readonly refusal: PeerRefusal } {
  const border = borders.get(hello.clusterId);
  if (border === undefined) return { refusal: unnamed(hello, here) };
  const refusal = refusalOf(hello, border, here) ?? unproven(hello, identity, border);
  return refusal === undefined ? { border } : { refusal };
}

/** Why the node at the other end is refused before it is greeted: this node shows its token only where it is due. */
export function refusalOfEnd(
  { certificate, border: gate, isLoopback }: PeerIdentity,
  { clusterId, trust }: Border,
): PeerRefusal | undefined {
  if (trust.kind === "token")
    return isLoopback ? undefined : { reason: "wrong_identity", detail: `the token of border ${clusterId} is for loopback only` };
  if (certificate === undefined || gate !== clusterId)
    return { reason: "wrong_identity", detail: `shows no certificate of the authority of border ${clusterId}` };
  if (certificate.clusterId === clusterId) return undefined;
  return { reason: "wrong_identity", detail: `its certificate is of cluster ${certificate.clusterId}, not of border ${clusterId}` };
}

function unnamed({ clusterId, region }: Hello, here: ClusterLocation): PeerRefusal {
  if (region === here.region)
    return {
      reason: "wrong_cluster",
      detail: `cluster ${clusterId} is in region ${region} too; within a region fabric.clusters lets it in`,
    };
  const row = `{ cluster_id = ${JSON.stringify(clusterId)}, region = ${JSON.stringify(region)}, ... }`;
  return {
    reason: "wrong_cluster",
    detail: `no border of cluster ${here.clusterId} names cluster ${clusterId} of region ${region}; to let it in, add to fabric.borders ${row}`,
  };
}

function refusalOf(hello: Hello, border: Border, here: ClusterLocation): PeerRefusal | undefined {
  if (hello.borderTo !== here.clusterId)
    return { reason: "wrong_cluster", detail: `means cluster ${hello.borderTo ?? ""}, and this is cluster ${here.clusterId}` };
  if (hello.region !== border.region)
    return {
      reason: "other_region",
      detail: `cluster ${border.clusterId} says that it is in region ${hello.region}; fabric.borders has it in ${border.region}`,
    };
  if (commonVersion(PROTOCOL_VERSIONS, hello.protocolVersions) === undefined)
    return { reason: "incompatible", detail: `speaks ${hello.protocolVersions.join(", ")}, not ${PROTOCOL_VERSIONS.join(", ")}` };
  return undefined;
}

function unproven(hello: Hello, identity: PeerIdentity, border: Border): PeerRefusal | undefined {
  const refusal = refusalOfEnd(identity, border);
  if (refusal !== undefined) return refusal;
  const { trust, clusterId } = border;
  if (trust.kind === "token") {
    const isOther = trust.otherToken !== undefined && equalSecrets(hello.clusterToken, trust.otherToken);
    if (equalSecrets(hello.clusterToken, trust.token) || isOther) return undefined;
    return { reason: "wrong_token", detail: `shows another token than that of border ${clusterId}, or none` };
  }
  if (identity.certificate?.nodeId === hello.nodeId) return undefined;
  return { reason: "wrong_identity", detail: `claims to be ${hello.nodeId}; its certificate is of ${identity.certificate?.nodeId ?? ""}` };
}

/** How other clusters are reached: which of them by TLS, with which credentials, and what the certificates of their servers must say. */
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
// The default import, because a named import of a function that an older Node lacks would fail before `connect` can explain it.
import nodeTls from "node:tls";
import type { ChannelCredentials } from "@grpc/grpc-js";
import type { Channel } from "../calls.ts";
import type { ClusterAccess, ConnectOptions, TlsFiles } from "../connect-options.ts";
import { type CheckIdentity, certificateFault, credentialsOf } from "../tls.io.ts";
import { clusterNameFault } from "./certificate-names.ts";
import { nearFault } from "./ingress-urls.ts";
import type { ClusterWays } from "./other-clusters.ts";

/** How one cluster is called. */
interface Access {
  readonly credentials: ChannelCredentials;
  readonly token?: string;
  readonly tls?: TlsFiles;
}

type OpenChannel = (server: string, access: Access) => Channel;

/** Throws a RangeError that names the file which cannot be used. */
export function waysOf({ tls, clusters = {} }: ConnectOptions, open: OpenChannel): ClusterWays {
  const named = new Map(Object.entries(clusters).map(([id, access]) => [id, namedAccess(id, access)]));
  return {
    isTls: (clusterId) => tls !== undefined || named.has(clusterId),
    open: (clusterId, server) => open(server, named.get(clusterId) ?? strangeAccess(clusterId, tls)),
    findFault: async ({ clusterId, server, from }, timeoutMs) => {
      const near = await addressFault(server, from);
      const access = named.get(clusterId);
      if (near !== undefined || access?.tls.cert === undefined) return near;
      return certificateFault(server, { ...access, timeoutMs });
    },
  };
}

function namedAccess(clusterId: string, { tls, token, serverName }: ClusterAccess) {
  const checkServerIdentity: CheckIdentity =
    serverName === undefined ? namesCluster(clusterId) : (_host, certificate) => nodeTls.checkServerIdentity(serverName, certificate);
  const credentials = credentialsOf(tls, `clusters.${clusterId}.tls`, checkServerIdentity);
  return { credentials, tls, checkServerIdentity, ...(token !== undefined && { token }) };
}

/** A cluster that the program has no credentials for. The authorities are no credential: who trusts by TLS at home does so elsewhere. */
function strangeAccess(clusterId: string, home: TlsFiles | undefined): Access {
  if (home === undefined) return { credentials: credentialsOf(undefined) };
  const tls = { ...(home.ca && { ca: home.ca }) };
  return { credentials: credentialsOf(tls, "tls", namesCluster(clusterId)), tls };
}

function namesCluster(clusterId: string): CheckIdentity {
  return (_host, { subjectaltname = "" }) => {
    const fault = clusterNameFault(subjectaltname, clusterId);
    return fault === undefined ? undefined : new Error(fault);
  };
}

/** What is wrong with the addresses of a name, when one of them is nearer than the server that named it. */
async function addressFault(server: string, from: string): Promise<string | undefined> {
  const host = server.slice(0, server.lastIndexOf(":")).replaceAll(/[[\]]/g, "");
  if (isIP(host) !== 0) return undefined;
  // A name without an address fails when it is called.
  const found = await lookup(host, { all: true }).catch(() => []);
  const fault = found.map(({ address }) => nearFault(address, from)).find((each) => each !== undefined);
  return fault && `${host} is ${fault}`;
}

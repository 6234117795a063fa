/** Determines how other clusters are called: whether TLS is used, which credentials are sent, and how server certificates are checked. */

import dns from "node:dns";
import { isIP } from "node:net";
// This is a default import, because a named import of a function that is missing in older Node.js versions would fail before `connect` can report the
// version.
import nodeTls from "node:tls";
import { splitHostPort } from "../../lib/addresses.ts";
import type { ClusterAccess, ConnectOptions, TlsFiles } from "../connect-options.ts";
import { type ChannelCredentials, type CheckIdentity, certificateFault, credentialsOf } from "../tls.io.ts";
import { clusterNameFault, nearFault } from "./ingress-urls.ts";
import type { ClusterAccessRules } from "./other-clusters.ts";
import type { DirectedChannel, ServerProbeResult } from "./proven-channel.ts";

/** The credentials for one cluster, and how its servers are checked. */
interface ClusterCredentials {
  readonly credentials: ChannelCredentials;
  readonly token?: string;
  readonly tls?: TlsFiles;
}

type OpenChannel = (server: string, access: ClusterCredentials) => DirectedChannel;

/** Throws a RangeError that names the file if a file is unusable. */
export function clusterAccess({ tls, clusters = {} }: ConnectOptions, open: OpenChannel): ClusterAccessRules {
  const named = new Map(Object.entries(clusters).map(([id, access]) => [id, namedAccess(id, access)]));
  return {
    isTls: (clusterId) => tls !== undefined || named.has(clusterId),
    open: (clusterId, server) => open(server, named.get(clusterId) ?? strangeAccess(clusterId, tls)),
    lookAt: async ({ clusterId, server, from }, timeoutMs) => {
      const looked = await addressesOf(server, from);
      const access = named.get(clusterId);
      if ("fault" in looked || access?.tls.cert === undefined) return looked;
      const fault = await certificateFault(server, { ...access, addresses: looked.addresses, timeoutMs });
      return fault === undefined ? looked : { fault };
    },
  };
}

function namedAccess(clusterId: string, { tls, token, serverName }: ClusterAccess) {
  const checkServerIdentity: CheckIdentity =
    serverName === undefined ? namesCluster(clusterId) : (_host, certificate) => nodeTls.checkServerIdentity(serverName, certificate);
  const credentials = credentialsOf(tls, `clusters.${clusterId}.tls`, checkServerIdentity);
  return { credentials, tls, checkServerIdentity, ...(token !== undefined && { token }) };
}

/** The access to a cluster for which the program has no credentials. CA certificates are not credentials, so the home cluster's CAs are used. */
function strangeAccess(clusterId: string, home: TlsFiles | undefined): ClusterCredentials {
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

/** Looks up the addresses of a name. Fails if one of them is on this machine or this link, unless the server that named it is local as well. */
async function addressesOf(server: string, from: string): Promise<ServerProbeResult> {
  const { host } = splitHostPort(server);
  if (isIP(host) !== 0) return { addresses: [host] };
  const found = await dns.promises.lookup(host, { all: true }).catch(() => []);
  if (found.length === 0) return { fault: `${host} has no address` };
  const fault = found.map(({ address }) => nearFault(address, from)).find((each) => each !== undefined);
  return fault === undefined ? { addresses: found.map(({ address }) => address) } : { fault: `${host} is ${fault}` };
}

/** Chooses the host on which this node listens for peers, and the address that it advertises to them. */
import { networkInterfaces } from "node:os";
import type { Settings } from "../../config/settings.ts";
import { isLoopbackHost } from "../../lib/addresses.ts";

const LOOPBACK = "127.0.0.1";
const ANY = new Set(["0.0.0.0", "::", "[::]"]);

/**
 * Returns the host of the fabric listener. The other listeners' host is used when nodes authenticate by certificate, or by token on a network that
 * the operator trusts. In all other cases loopback is used, because peers on other machines could not authenticate. Throws when the settings are
 * incomplete.
 */
export function fabricHost({ listen, fabric }: Settings): string {
  if (isLoopbackHost(listen.host) || fabric.certFile !== undefined) return listen.host;
  const hasToken = fabric.clusterTokenFile !== undefined;
  if (hasToken && listen.insecure) return listen.host;
  if (!hasToken && fabric.seeds.length === 0) return LOOPBACK;
  throw new Error(
    `refusing to open the fabric on ${listen.host}: peers could not be authenticated. ` +
      "Configure fabric.cert_file, fabric.key_file and fabric.ca_file; or, on a trusted network, fabric.cluster_token_file with --insecure; " +
      "or listen on 127.0.0.1",
  );
}

export interface NetworkAddress {
  readonly address: string;
  readonly family: string;
  readonly internal: boolean;
}

/**
 * Returns the host that is advertised to other nodes: the advertised host from the settings, or the bound host if none is set. A node that is bound
 * to all addresses advertises the first address that is not loopback. Throws if the system does not list its addresses.
 */
export function advertisedHost(settings: Settings, bound: string, interfaces: () => readonly NetworkAddress[] = allInterfaces): string {
  const { advertiseHost, host } = settings.listen;
  // A listener that is bound only to loopback advertises loopback, because it cannot be reached from elsewhere.
  if (isLoopbackHost(bound) && !isLoopbackHost(host)) return bound;
  if (advertiseHost !== undefined) return advertiseHost;
  if (!ANY.has(bound)) return bound;
  const usable = interfaces().filter(({ internal, address }) => !internal && !address.toLowerCase().startsWith("fe80:"));
  const found = usable.find(({ family }) => family === "IPv4") ?? usable.find(({ family }) => family === "IPv6");
  return found?.address ?? LOOPBACK;
}

function allInterfaces(): readonly NetworkAddress[] {
  try {
    return Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  } catch (cause) {
    throw new Error(
      "cannot read the network addresses of this machine: set listen.advertise_host, or allow netlink sockets for the process",
      {
        cause,
      },
    );
  }
}

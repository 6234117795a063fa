/** Where this node listens for others, and the address it tells them. */
import { networkInterfaces } from "node:os";
import type { Settings } from "../../config/settings.ts";
import { isLoopbackHost } from "../../lib/addresses.ts";

const LOOPBACK = "127.0.0.1";
const ANY = new Set(["0.0.0.0", "::", "[::]"]);

/**
 * Host of the fabric listener. It is the host of the other listeners when nodes prove who they are by certificate, or by token on a network that the
 * operator trusts. Without either it is loopback, because other machines could prove nothing. Throws when the settings are incomplete.
 */
export function fabricHost({ listen, fabric }: Settings): string {
  if (isLoopbackHost(listen.host) || fabric.certFile !== undefined) return listen.host;
  const hasToken = fabric.clusterTokenFile !== undefined;
  if (hasToken && listen.insecure) return listen.host;
  if (!hasToken && fabric.seeds.length === 0) return LOOPBACK;
  throw new Error(
    `refusing to join nodes on ${listen.host}: nothing would prove which node is at the other end. ` +
      "Configure fabric.cert_file, fabric.key_file and fabric.ca_file; or, where the network itself is trusted, fabric.cluster_token_file with --insecure; " +
      "or listen on 127.0.0.1",
  );
}

export interface NetworkAddress {
  readonly address: string;
  readonly family: string;
  readonly internal: boolean;
}

/**
 * The host that other nodes are told: the one of the settings, else the bound one. A node bound to all addresses tells the first one that is not
 * loopback. Throws when the system does not list its addresses.
 */
export function advertisedHost(settings: Settings, bound: string, interfaces: () => readonly NetworkAddress[] = allInterfaces): string {
  const { advertiseHost, host } = settings.listen;
  // A listener that is on loopback alone is told as such, because nobody reaches it elsewhere.
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
    throw new Error("this machine's addresses cannot be read; set listen.advertise_host, or let the process use netlink sockets", {
      cause,
    });
  }
}

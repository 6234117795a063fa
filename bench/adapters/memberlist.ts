/**
 * HashiCorp memberlist as our detection of dead members stands beside it, in a small Go program around it (bench/peers/memberlist).
 *
 * Made equal: the number of processes, each in a network namespace with an address of its own on one bridge, all of both peers at the same time
 * and on whatever core there is; the same machine is ended in the same way at the same moment; a death counts when the line that says so has
 * reached the benchmark. DefaultLANConfig is what programs run in a network, and its times are those of our defaults: a probe each second, half
 * a second for the answer, a suspicion of four probes times the logarithm of the number of members. DefaultLocalConfig, which is for one machine
 * and shortens them, stands in the table to be seen. Nothing of either is changed but name and address.
 * Not equal, for memberlist: its process holds no catalog and has no links, and its packets are neither encrypted nor authenticated; ours has a
 * catalog, and links with a token. Not equal, for us: it is told of a broken connection by nothing but its own probes,
 * where ours also looks at its links.
 */

/** A program of which a group is made, and how what it says is read. */
export interface MemberKind {
  readonly name: string;
  /** Before the numbers of its machines. */
  readonly prefix: string;
  readonly command: readonly string[];
  flags(name: string, host: string, seed: string | undefined): readonly string[];
  /** The address to join by, when the line tells it. */
  addressIn(line: Readonly<Record<string, unknown>>): string | undefined;
  saidIn(line: Readonly<Record<string, unknown>>): { readonly of: string; readonly isDead: boolean } | undefined;
}

export function memberlist(program: string, config: "LAN" | "Local"): MemberKind {
  return {
    name: `memberlist, Default${config}Config`,
    prefix: config,
    command: config === "Local" ? [program, "-local"] : [program],
    flags: (name, host, seed) => ["-name", name, "-bind", host, ...(seed === undefined ? [] : ["-join", seed])],
    addressIn: ({ what, address }) => (what === "ready" ? String(address) : undefined),
    saidIn: ({ what, node }) => (what === "join" || what === "leave" ? { of: String(node), isDead: what === "leave" } : undefined),
  };
}

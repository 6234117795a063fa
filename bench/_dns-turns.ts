/** Servers of the same names that dnsperf asks in turn, and what each of them took. */
import { type DnsServer, dnsperf, dnsSettings, type Loaded, loadNames, NAMES } from "./_dns.ts";
import { listenerOf, type Node, startNode } from "./_processes.ts";
import { ratioOf, spread } from "./_results.ts";

/** Node has compiled the path of an answer after some 100,000 of them. */
const WARM_SECONDS = 4;

export type Rounds<Name extends string> = Readonly<Record<Name, readonly Loaded[]>>;

/** How long is measured. */
export interface Lengths {
  readonly rounds: number;
  readonly seconds: number;
}

/** What is measured in turn. */
export interface Turn {
  readonly server: DnsServer;
  readonly file: string;
  /** `WARM_SECONDS` unless set. */
  readonly warmSeconds?: number;
  /** Runs beside it; what it gives ends it. */
  readonly beside?: () => Promise<() => Promise<void>>;
}

export async function startOurs(count = NAMES): Promise<DnsServer & { readonly running: Node }> {
  const node = await startNode({ args: ["--config", dnsSettings()] });
  await loadNames(node, count);
  return { who: "Waymark", at: listenerOf(node, "dns"), running: node };
}

/** Goes through all turns there and back. */
export async function inTurns<Name extends string>(
  turns: Readonly<Partial<Record<Name, Turn>>>,
  { rounds, seconds }: Lengths,
): Promise<Partial<Rounds<Name>>> {
  const all = Object.entries(turns) as [Name, Turn][];
  const loaded: Partial<Record<Name, Loaded[]>> = {};
  for (const [, { server, file, warmSeconds = WARM_SECONDS }] of all) await dnsperf(server, file, { seconds: warmSeconds });
  for (let r = 0; r < rounds; r++)
    for (const [name, { server, file, beside }] of r % 2 === 0 ? all : all.toReversed()) {
      const end = await beside?.();
      (loaded[name] ??= []).push(await dnsperf(server, file, { seconds }));
      await end?.();
    }
  return loaded;
}

export function perCpuSecond(rounds: readonly Loaded[] | undefined): readonly number[] {
  return (rounds ?? []).map(({ cpuUs }) => 1e6 / cpuUs);
}

export function costs(rounds: readonly Loaded[] | undefined): readonly number[] {
  return (rounds ?? []).map(({ cpuUs }) => cpuUs);
}

/** The table of all turns; `names` are what the servers are called in it, where it is another name. */
export function rowsOf(
  loaded: Partial<Rounds<string>>,
  names: Readonly<Record<string, string>> = {},
): readonly Readonly<Record<string, unknown>>[] {
  return Object.entries(loaded).flatMap(([server, rounds = []]) => ({
    server: names[server] ?? server,
    "CPU µs per query": spread(costs(rounds)),
    "queries per CPU-second": spread(perCpuSecond(rounds)),
    "queries a second": spread(rounds.map(({ perSecond }) => perSecond)),
    "share of a core": spread(rounds.map(({ share }) => share)),
    "bytes per answer": rounds[0]?.bytes,
    "relative to Waymark":
      loaded["waymark"] === undefined || server === "waymark" ? "-" : (ratioOf(costs(loaded["waymark"]), costs(rounds)) ?? "-"),
  }));
}

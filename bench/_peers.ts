/**
 * The programs that our figures stand beside. Each is a small Go module below bench/peers, which fixes the version of the peer;
 * `npm run bench -- --install` builds it into .cache/peers. A peer that is not there is not measured.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { mustRun, ROOT } from "../scripts/run.ts";

/** A module from which a program is built. */
interface Source {
  /** Its version is the program's. */
  readonly module: string;
  /** The package in it that is the program, where that needs no program of ours around it. */
  readonly command?: string;
  /** Built without C libraries, which the machine may not have. */
  readonly isWithoutC?: boolean;
}

/** Folders of bench/peers. Programs with a command need no code of ours: drivers of load, which check our own, and step-ca. */
const SOURCES = {
  consul: { module: "github.com/hashicorp/consul" },
  coredns: { module: "github.com/coredns/coredns" },
  etcd: { module: "go.etcd.io/etcd/server/v3" },
  "etcd-benchmark": { module: "go.etcd.io/etcd/v3", command: "go.etcd.io/etcd/v3/tools/benchmark" },
  "etcd-election": { module: "go.etcd.io/etcd/client/v3" },
  "etcd-mutexes": { module: "go.etcd.io/etcd/client/v3" },
  ghz: { module: "github.com/bojand/ghz", command: "github.com/bojand/ghz/cmd/ghz" },
  memberlist: { module: "github.com/hashicorp/memberlist" },
  nats: { module: "github.com/nats-io/nats-server/v2" },
  "step-ca": { module: "github.com/smallstep/certificates", command: "github.com/smallstep/certificates/cmd/step-ca", isWithoutC: true },
} as const satisfies Readonly<Record<string, Source>>;

export type PeerName = keyof typeof SOURCES;

const PEERS = Object.keys(SOURCES) as readonly PeerName[];

const BUILT = join(ROOT, ".cache", "peers");

/** What a build was made of, beside the program. */
interface Stamp {
  readonly sources: string;
  readonly version: string;
}

function sourcesOf(name: PeerName): string {
  const hash = createHash("sha256");
  const own = "command" in SOURCES[name] ? [] : ["main.go"];
  for (const file of ["go.mod", "go.sum", ...own]) hash.update(readFileSync(join(ROOT, "bench", "peers", name, file)));
  return hash.digest("hex");
}

function stampOf(name: PeerName): Stamp | undefined {
  const file = join(BUILT, `${name}.json`);
  if (!existsSync(file)) return undefined;
  const stamp = JSON.parse(readFileSync(file, "utf8")) as Stamp;
  // A program built from other sources is another version: it counts as absent.
  return stamp.sources === sourcesOf(name) ? stamp : undefined;
}

/** Those that were asked for in this process: what a report says the versions of. */
const asked = new Set<PeerName>();

/** The program of a peer; undefined where it is not installed in the version that its module names. */
export function peerProgram(name: PeerName): string | undefined {
  asked.add(name);
  return stampOf(name) === undefined ? undefined : join(BUILT, name);
}

/** The version of each peer and of the Go that built it, or "not installed". */
function versionsOf(names: readonly PeerName[]): Readonly<Record<string, string>> {
  return Object.fromEntries(names.map((name) => [name, stampOf(name)?.version ?? NOT_INSTALLED]));
}

const NOT_INSTALLED = "not installed";

/** Of the peers that this process has asked for, and of the tools that the system brings. */
export function askedVersions(): Readonly<Record<string, string>> {
  return { ...versionsOf(PEERS.filter((name) => asked.has(name))), ...tools };
}

const tools: Record<string, string> = {};

/** Whether a program that the system brings is on the path, and its version for the report: what it says of itself, without what `name` takes away. */
function hasTool(tool: string, args: readonly string[], name: RegExp): boolean {
  try {
    tools[tool] ??= execFileSync(tool, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] })
      .trim()
      .replace(name, "");
  } catch {
    tools[tool] = NOT_INSTALLED;
  }
  return tools[tool] !== NOT_INSTALLED;
}

export function hasH2load(): boolean {
  return hasTool("h2load", ["--version"], /^h2load /);
}

export function hasKnot(): boolean {
  return hasTool("knotd", ["--version"], /^.*version /);
}

export function hasDnsperf(): boolean {
  return hasTool("dnsperf", ["-h"], /^[^]*Version /);
}

export function absentPeers(): readonly PeerName[] {
  return PEERS.filter((name) => stampOf(name) === undefined);
}

/** Builds each peer that is not there yet. Consul takes several minutes. Throws with Go's own words when one cannot be built. */
export async function installPeers(): Promise<void> {
  mkdirSync(BUILT, { recursive: true });
  for (const name of PEERS) {
    if (peerProgram(name) !== undefined) continue;
    console.error(`builds ${name}`);
    const cwd = join(ROOT, "bench", "peers", name);
    const source: Source = SOURCES[name];
    await mustRun("go", ["build", "-trimpath", "-o", join(BUILT, name), source.command ?? "."], {
      cwd,
      ...(source.isWithoutC === true && { env: { CGO_ENABLED: "0" } }),
    });
    const version = (await mustRun("go", ["list", "-m", "-f", "{{.Version}}", source.module], { cwd })).trim();
    const go = (await mustRun("go", ["env", "GOVERSION"], { cwd })).trim();
    const stamp: Stamp = { sources: sourcesOf(name), version: `${version} (${go})` };
    writeFileSync(join(BUILT, `${name}.json`), JSON.stringify(stamp));
  }
  for (const [name, version] of Object.entries(versionsOf(PEERS))) console.error(`${name}: ${version}`);
}

/**
 * The programs that our figures stand beside. Each is a small Go module below bench/peers, which fixes the version of the peer;
 * `npm run bench -- --install` builds it into .cache/peers. A peer that is not there is not measured.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { mustRun, ROOT } from "../scripts/run.ts";

/** Folders of bench/peers, and the module that each is built from. */
const MODULES = {
  consul: "github.com/hashicorp/consul",
  etcd: "go.etcd.io/etcd/server/v3",
  memberlist: "github.com/hashicorp/memberlist",
  nats: "github.com/nats-io/nats-server/v2",
} as const;

export type PeerName = keyof typeof MODULES;

const PEERS = Object.keys(MODULES) as readonly PeerName[];

const BUILT = join(ROOT, ".cache", "peers");

/** What a build was made of, beside the program. */
interface Stamp {
  readonly sources: string;
  readonly version: string;
}

function sourcesOf(name: PeerName): string {
  const hash = createHash("sha256");
  for (const file of ["go.mod", "go.sum", "main.go"]) hash.update(readFileSync(join(ROOT, "bench", "peers", name, file)));
  return hash.digest("hex");
}

function stampOf(name: PeerName): Stamp | undefined {
  const file = join(BUILT, `${name}.json`);
  if (!existsSync(file)) return undefined;
  const stamp = JSON.parse(readFileSync(file, "utf8")) as Stamp;
  // A program built from other sources is another version: it counts as absent.
  return stamp.sources === sourcesOf(name) ? stamp : undefined;
}

/** The program of a peer; undefined where it is not installed in the version that its module names. */
export function peerProgram(name: PeerName): string | undefined {
  return stampOf(name) === undefined ? undefined : join(BUILT, name);
}

/** The version of each peer and of the Go that built it, or "not installed". */
export function peerVersions(): Readonly<Record<PeerName, string>> {
  const versions = PEERS.map((name) => [name, stampOf(name)?.version ?? "not installed"]);
  return Object.fromEntries(versions) as Record<PeerName, string>;
}

/** Builds each peer that is not there yet. Consul takes several minutes. Throws with Go's own words when one cannot be built. */
export async function installPeers(): Promise<void> {
  mkdirSync(BUILT, { recursive: true });
  for (const name of PEERS) {
    if (peerProgram(name) !== undefined) continue;
    console.error(`builds ${name}`);
    const cwd = join(ROOT, "bench", "peers", name);
    await mustRun("go", ["build", "-trimpath", "-o", join(BUILT, name), "."], { cwd });
    const version = (await mustRun("go", ["list", "-m", "-f", "{{.Version}}", MODULES[name]], { cwd })).trim();
    const go = (await mustRun("go", ["env", "GOVERSION"], { cwd })).trim();
    const stamp: Stamp = { sources: sourcesOf(name), version: `${version}, ${go}` };
    writeFileSync(join(BUILT, `${name}.json`), JSON.stringify(stamp));
  }
  for (const [name, version] of Object.entries(peerVersions())) console.error(`${name}: ${version}`);
}

/** Real nodes of two clusters in network namespaces, and clients and watches of both: what `npm run soak:cluster` sets faults upon. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonObject } from "@bufbuild/protobuf";
import { Rng } from "../../src/lib/rng.ts";
import { ClusterLoad, type LoadedCluster } from "./cluster-load.ts";
import { NetWorld } from "./net-world.ts";
import { GrpcDoor, textOf } from "./node.ts";
import { CommandProcess, type NodeProcess, startNodeProcess } from "./node-process.ts";
import { ProvedWatch } from "./proved-watch.ts";
import { until } from "./until.ts";

export const LIBRARY = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
const A_DAY_AHEAD = ["env", `LD_PRELOAD=${LIBRARY}`, "FAKETIME=+1d", "FAKETIME_DONT_FAKE_MONOTONIC=1"];
const FABRIC_PORT = 7100;
const CLUSTERS: Readonly<Record<string, readonly string[]>> = { c1: ["n1", "n2", "n3"], c2: ["n4", "n5"] };
/** Static entries that one policy shows and the other hides. */
const VEILED = 200;
/** What a settled world may take to agree: several times what it takes on a busy machine. */
const SETTLE_MS = 120_000;
/** Of a log, when something is wrong. */
const LAST_LINES = 40;

interface SoakNode {
  readonly name: string;
  readonly process: NodeProcess;
  readonly door: GrpcDoor;
}

interface SoakCluster extends LoadedCluster {
  readonly running: readonly SoakNode[];
}

export class SoakWorld implements AsyncDisposable {
  readonly net = new NetWorld(Object.values(CLUSTERS).flat());
  readonly names = this.net.names;
  readonly loads: Readonly<Record<string, ClusterLoad>>;
  readonly watches: readonly SoakWatch[];
  readonly #home = mkdtempSync(join(tmpdir(), "waymark-soak-"));
  readonly #running = new Map<string, SoakNode>();
  readonly #aside = new Set<string>();
  readonly #policies: readonly string[];
  #policyCount = 0;
  /** Where the veiled entries were registered last. */
  #veiledAt = "n1";

  constructor(seed: string) {
    writeFileSync(join(this.#home, "fabric.token"), "a-token-of-the-soak-of-two-clusters\n", { mode: 0o600 });
    for (const name of this.names) this.#configure(name);
    const set = (rules: readonly JsonObject[]) => ({ version: "soak", default_allow: true, rules });
    this.#policies = [set([]), set([{ namespace: "svc.veiled", visibility: ["nobody"] }])].map((each, i) => {
      const path = join(this.#home, `policy-${i}.json`);
      writeFileSync(path, JSON.stringify(each));
      return path;
    });
    const loads = Object.keys(CLUSTERS).map((cluster) => {
      const options = { clientCount: 3, prefix: `${cluster}-`, longTtl: "86400s", scopeOf: isRegional };
      return [cluster, new ClusterLoad(this.#of(cluster), `${seed}/${cluster}`, options)] as const;
    });
    this.loads = Object.fromEntries(loads);
    this.watches = Object.keys(CLUSTERS).map((cluster) => new SoakWatch(this.#of(cluster), new Rng(`${seed}/watch ${cluster}`)));
  }

  /** All nodes, the veiled entries, the load and the watches. */
  async open(): Promise<void> {
    await Promise.all(this.names.map((name) => this.start(name)));
    await this.#veil("n1");
    for (const load of Object.values(this.loads)) load.start();
    for (const watch of this.watches) watch.start();
  }

  // ---- faults ----

  async start(name: string): Promise<void> {
    const process = await startNodeProcess(this.#flagsOf(name), this.net.wrapperOf(name));
    this.#running.set(name, { name, process, door: new GrpcDoor(process.grpc) });
  }

  async end(name: string, signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    const node = this.#running.get(name);
    if (node === undefined) throw new Error(`${name} does not run`);
    this.#running.delete(name);
    node.door[Symbol.dispose]();
    await node.process.stop(signal);
  }

  async loseDisk(name: string): Promise<void> {
    await this.end(name, "SIGKILL");
    rmSync(join(this.#home, name), { recursive: true });
    for (const load of Object.values(this.loads)) load.lost(name);
    await this.start(name);
    if (this.#veiledAt === name)
      await this.#veil(this.names.find((each) => each !== name && CLUSTERS["c1"]?.includes(each) === true) ?? "n1");
  }

  /** Nobody asks it anything until `thaw`: what it was asked before is carried out when it is back, after what others were asked since. */
  async freeze(name: string): Promise<void> {
    this.#aside.add(name);
    await Promise.all(Object.values(this.loads).map((load) => load.progress(10)));
    this.#running.get(name)?.process.command.kill("SIGSTOP");
  }

  thaw(name: string): void {
    this.#running.get(name)?.process.command.kill("SIGCONT");
    this.#aside.delete(name);
  }

  /** Runs a node with a clock that is a day ahead, while `meanwhile` lasts; it is not ready for so long. */
  async dayAhead(name: string, meanwhile: () => Promise<void>): Promise<void> {
    await this.end(name, "SIGKILL");
    await using process = new CommandProcess(["serve", ...this.#flagsOf(name)], "", [...this.net.wrapperOf(name), ...A_DAY_AHEAD]);
    await meanwhile();
    if (!process.isRunning) throw new Error(`${name} with a clock a day ahead ended: ${process.stderr}`);
    process.kill("SIGKILL");
    await process.finished();
    await this.start(name);
  }

  /** The other one of the two policies. */
  async switchPolicy(at: string): Promise<void> {
    this.#policyCount += 1;
    const file = this.#policies[this.#policyCount % 2] ?? "";
    const { exit, stderr } = (await this.#running.get(at)?.process.run(["namespace", "policy", "apply", file])) ?? { exit: -1, stderr: "" };
    if (exit !== 0) throw new Error(`policy not applied at ${at}: ${stderr}`);
  }

  // ---- what must hold ----

  /** Without cuts and without load: everybody has what was acknowledged, says the same, and each watch holds what its node shows. */
  async settle(): Promise<void> {
    await Promise.all(Object.values(this.loads).map((load) => load.stop()));
    await until("all know each other, are ready and in step", () => this.#strangers(), SETTLE_MS);
    for (const load of Object.values(this.loads)) await load.isKept();
    await until("all nodes agree", () => this.#disagreements(), SETTLE_MS);
    for (const watch of this.watches) {
      const held = await this.dump(watch.at);
      await watch.holds([...held.keys()]);
    }
  }

  /** The last words of each node's log, for people. */
  said(): string {
    const last = ({ name, process }: { readonly name: string; readonly process: NodeProcess }) =>
      process.command.stderr
        .split("\n")
        .slice(-LAST_LINES)
        .map((line) => `${name} ${line}`);
    return [...this.#running.values()].flatMap(last).join("\n");
  }

  resume(): void {
    for (const load of Object.values(this.loads)) load.start();
  }

  /** Everything below `svc` that a node shows. */
  async dump(name: string): Promise<ReadonlyMap<string, JsonObject>> {
    const door = this.#running.get(name)?.door;
    const found = new Map<string, JsonObject>();
    for (let pageToken = "", page = 0; page === 0 || pageToken !== ""; page++) {
      const answer = await door?.ask("catalogQuery", { namespacePrefix: "svc", limit: 500, pageToken });
      if (answer?.code !== "OK") throw new Error(`${name} answers ${answer?.code}: ${answer?.message}`);
      for (const item of (answer.response["items"] ?? []) as JsonObject[]) found.set(textOf((item["key"] as JsonObject)["name"]), item);
      pageToken = textOf(answer.response["nextPageToken"]);
    }
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const watch of this.watches) await watch.stop();
    for (const name of this.names.filter((each) => this.#running.has(each))) {
      this.thaw(name);
      await this.end(name, "SIGKILL");
    }
    this.net[Symbol.dispose]();
    rmSync(this.#home, { recursive: true, force: true });
  }

  async #strangers(): Promise<readonly string[]> {
    const faults: string[] = [];
    for (const { name, process, door } of this.#running.values()) {
      const { response } = await door.ask("listPeers", {});
      const alive = ((response["peers"] ?? []) as { nodeId: string; status: string }[]).filter(
        ({ status }) => status === "PEER_STATUS_ALIVE",
      );
      if (alive.length !== this.names.length - 1) faults.push(`${name} knows ${alive.map(({ nodeId }) => nodeId).join()}`);
      const ready = await fetch(`http://${process.listeners["http"]}/readyz`);
      if (ready.status !== 200) faults.push(`${name} is not ready: ${await ready.text()}`);
      else await ready.body?.cancel();
    }
    return faults;
  }

  /** Nodes of one cluster show the same; of another's they show what is published in the region, and the same of it. */
  async #disagreements(): Promise<readonly string[]> {
    const faults: string[] = [];
    const dumps = new Map<string, ReadonlyMap<string, JsonObject>>();
    for (const name of this.names) dumps.set(name, await this.dump(name));
    for (const [cluster, [first = ""]] of Object.entries(CLUSTERS)) {
      const home = [...(dumps.get(first) ?? [])].filter(([, { clusterId }]) => clusterId === cluster);
      for (const [name, held] of dumps) {
        const isHome = CLUSTERS[cluster]?.includes(name) === true;
        const wanted = new Map(home.filter(([, { scope }]) => isHome || scope === "SCOPE_REGION"));
        const found = new Map([...held].filter(([, { clusterId }]) => clusterId === cluster));
        for (const [key, entry] of wanted)
          if (JSON.stringify(found.get(key)) !== JSON.stringify(entry))
            faults.push(`${name} has ${key} as ${JSON.stringify(found.get(key))}`);
        for (const key of found.keys()) if (!wanted.has(key)) faults.push(`${name} has ${key}, and should not`);
      }
    }
    for (const [name, held] of dumps) {
      const veiled = [...held.keys()].filter((key) => key.startsWith("veiled-")).length;
      const wanted = this.#policyCount % 2 === 1 ? 0 : VEILED;
      if (veiled !== wanted) faults.push(`${name} shows ${veiled} veiled entries, not ${wanted}`);
    }
    return faults;
  }

  async #veil(at: string): Promise<void> {
    const entries = Array.from({ length: VEILED }, (_, i) => ({
      key: { kind: "ENTRY_KIND_SERVICE", namespace: "svc.veiled", name: `veiled-${i}`, instanceId: "1" },
      scope: "SCOPE_REGION",
    }));
    // A namespace that is hidden takes nothing.
    if (this.#policyCount % 2 === 1) await this.switchPolicy(at);
    await until("the veiled entries are registered", async () => {
      const answer = await this.#running.get(at)?.door.ask("register", { entries, staticLease: true });
      return answer?.code === "OK" ? [] : [`${answer?.code} ${answer?.message}`];
    });
    this.#veiledAt = at;
  }

  #of(cluster: string): SoakCluster {
    const names = CLUSTERS[cluster] ?? [];
    const running = () => names.flatMap((name) => this.#running.get(name) ?? []).filter(({ name }) => !this.#aside.has(name));
    return {
      get running() {
        return running();
      },
      dump: (name) => this.dump(name),
    };
  }

  #configure(name: string): void {
    const cluster = Object.keys(CLUSTERS).find((each) => CLUSTERS[each]?.includes(name) === true) ?? "";
    const address = this.net.addressOf(name);
    const settings = {
      node: { cluster_id: cluster, region: "here" },
      listen: { host: address, insecure: true },
      tenants: { anonymous: "all" },
      policy: { accept_from: ["c1", "c2"].filter((each) => each !== cluster) },
      fabric: {
        port: FABRIC_PORT,
        trust: "explicit",
        clusters: Object.keys(CLUSTERS),
        cluster_token_file: join(this.#home, "fabric.token"),
        seeds: this.names.filter((each) => each !== name).map((each) => `${this.net.addressOf(each)}:${FABRIC_PORT}`),
      },
      observability: { log_level: "warn" },
    };
    writeFileSync(join(this.#home, `${name}.json`), JSON.stringify(settings));
  }

  #flagsOf(name: string): readonly string[] {
    const config = ["--config", join(this.#home, `${name}.json`), "--fabric-port", String(FABRIC_PORT)];
    return ["--node-id", name, ...config, "--data-dir", join(this.#home, name), "--on-stop", "keep"];
  }
}

function isRegional(name: string): string {
  return /[02468]$/.test(name) ? "SCOPE_REGION" : "SCOPE_ZONE";
}

/** A careful reader of a cluster that goes on elsewhere, from where it was, when its node is gone. */
export class SoakWatch {
  readonly #cluster: SoakCluster;
  readonly #rng: Rng;
  #watch: ProvedWatch | undefined;
  #isOver = false;
  #running: Promise<void> = Promise.resolve();
  /** The node that it reads from. */
  at = "";
  /** What did not come to the digest. */
  readonly faults: string[] = [];
  #settledCount = 0;
  streamCount = 0;

  constructor(cluster: SoakCluster, rng: Rng) {
    this.#cluster = cluster;
    this.#rng = rng;
  }

  start(): void {
    this.#running = this.#follow();
  }

  /** ENDs and bookmarks that were checked. */
  get checkedCount(): number {
    return this.#settledCount + (this.#watch?.checkedCount ?? 0);
  }

  async holds(names: readonly string[]): Promise<void> {
    await until(
      "the watch holds what its node shows",
      async () => {
        const before = this.checkedCount;
        await this.#watch?.holds(names, SETTLE_MS);
        return this.checkedCount > before ? [] : ["no stream"];
      },
      SETTLE_MS,
    );
    if (this.faults.length > 0) throw new Error(`a watch was wrong: ${this.faults.join("; ")}`);
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#watch?.[Symbol.asyncDispose]();
    await this.#running;
  }

  async #follow(): Promise<void> {
    while (!this.#isOver) {
      const { running } = this.#cluster;
      const node = running[this.#rng.uint32() % Math.max(1, running.length)];
      if (node !== undefined) {
        this.streamCount += 1;
        this.at = node.name;
        const watch = new ProvedWatch([node.process.grpc], this.#watch);
        this.#watch = watch;
        await watch.ended;
        this.#settledCount += watch.checkedCount;
        if (watch.fault !== undefined) this.faults.push(`at ${this.at}: ${watch.fault}`);
        await watch[Symbol.asyncDispose]();
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

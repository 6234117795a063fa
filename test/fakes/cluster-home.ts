/** A folder where the nodes of a cluster live: who is started there once more finds its disk. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonObject } from "@bufbuild/protobuf";
import { type NodeProcess, startNodeProcess } from "./node-process.ts";

export class ClusterHome implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), "waymark-home-"));
  readonly config = join(this.folder, "settings.json");

  constructor(settings: JsonObject) {
    writeFileSync(this.config, JSON.stringify(settings));
  }

  /** Starts a node, on its disk when it had one, that joins by way of these; `wrapper` as that of `startNodeProcess`. */
  start(name: string, seeds: readonly NodeProcess[] = [], wrapper: readonly string[] = []): Promise<NodeProcess> {
    return this.startAt(name, join(this.folder, name), seeds, wrapper);
  }

  /** Starts a node in any data directory. */
  startAt(name: string, dataDir: string, seeds: readonly NodeProcess[] = [], wrapper: readonly string[] = []): Promise<NodeProcess> {
    const joins = seeds.length === 0 ? [] : ["--join", seeds.map(({ listeners }) => listeners["fabric"] ?? "").join()];
    return startNodeProcess(["--node-id", name, "--config", this.config, "--data-dir", dataDir, ...joins], wrapper);
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

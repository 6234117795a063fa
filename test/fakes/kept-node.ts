/** A real node of cluster c1 that can be started again: its directory and its entries outlive it. */
import { join } from "node:path";
import { type NodeProcess, startNodeProcess } from "./node-process.ts";

/** Starts it with a directory of its own below `home`. */
export function startKeptNode(home: string, nodeId: string, ...flags: readonly string[]): Promise<NodeProcess> {
  const place = ["--node-id", nodeId, "--cluster-id", "c1", "--region", "eu"];
  return startNodeProcess(["--data-dir", join(home, nodeId), "--on-stop", "keep", ...place, ...flags]);
}

/** Where other nodes reach it. */
export const fabricOf = ({ listeners }: NodeProcess): string => listeners["fabric"] ?? "";

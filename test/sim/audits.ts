/** Worlds in which operators change nodes while the audit log is slow or its disk is full. Each answer comes after the record of its operation. */
import { Rng } from "../../src/lib/rng.ts";
import { OperatedPeers, PEER_VERBS, settled } from "../fakes/operated-peers.ts";
import type { Violation } from "./checks.ts";

const OPERATIONS = 12;

export async function runSeed(
  seed: string | number,
): Promise<{ readonly violation: Pick<Violation, "invariant" | "message"> | undefined }> {
  const rng = new Rng(`audits/${seed}`);
  const peers = new OperatedPeers();
  for (let n = 0; n < OPERATIONS; n++) {
    peers.refusal = (["", "", "version_conflict", "store_unavailable"] as const)[rng.int(4)] ?? "";
    peers.isDiskFull = rng.int(4) === 0;
    const verb = PEER_VERBS[rng.int(PEER_VERBS.length)] ?? "cordon";
    const recorded = peers.onDisk.length;
    let answer: string | undefined;
    const call = peers.call(verb, { nodeId: ["n1", "n2", "n9", "typo"][rng.int(4)] ?? "" });
    void call.then(({ error }) => (answer = error?.reason ?? "done"));
    await settled();
    if (answer !== undefined) return broken(`${verb} was answered with ${answer} before it was on record`);
    peers.write();
    await call;
    if (answer === "done" && peers.onDisk.length === recorded) return broken(`${verb} was done without a record`);
  }
  return { violation: undefined };
}

function broken(message: string) {
  return { violation: { invariant: "recorded" as const, message } };
}

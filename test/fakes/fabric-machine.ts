/** A fabric without the rest of a node, for the driver: what concerns own records is passed over. */
import type { Fabric } from "../../src/fabric/fabric.ts";
import type { FabricInput, FabricOutput, LinkId } from "../../src/fabric/io-types.ts";
import type { LinkFrame, MemberFacts } from "../../src/fabric/wire/messages.ts";
import type { Time } from "../../src/lib/machine.ts";
import type { DrivenMachine } from "../../src/node/core-driver.io.ts";
import type { NodeInput, NodeOutput } from "../../src/node/core-io.ts";

export class FabricMachine implements DrivenMachine {
  readonly writeEligibility = { refusal: undefined };
  readonly #fabric: Fabric;
  /** What it says of itself when it begins; as it was made unless given. */
  readonly #factsAtBegin: (() => MemberFacts) | undefined;
  #isLeaving = false;

  constructor(fabric: Fabric, factsAtBegin?: () => MemberFacts) {
    this.#fabric = fabric;
    this.#factsAtBegin = factsAtBegin;
  }

  get calls(): Fabric["calls"] {
    return this.#fabric.calls;
  }

  durable(): number {
    return 0;
  }

  mustConfirm(): boolean {
    return false;
  }

  look(): boolean {
    return false;
  }

  show(): void {}

  nextDeadlineMs(): number {
    return this.#fabric.nextDeadlineMs();
  }

  handle(input: NodeInput, time: Time, out: NodeOutput[]): void {
    const facts = this.#factsAtBegin?.();
    if (input.kind === "begin" && facts !== undefined) this.#give({ kind: "facts", facts }, time, out);
    const given = inputOf(input);
    if (given !== undefined) this.#give(given, time, out);
    if (input.kind === "depart") this.#isLeaving = true;
    if (this.#isLeaving && this.#fabric.isStopped(time)) out.push({ kind: "gone", reason: "restart" });
  }

  #give(input: FabricInput, time: Time, out: NodeOutput[]): void {
    const said: FabricOutput[] = [];
    this.#fabric.handle(input, time, said);
    pass(said, out);
  }

  pull(link: LinkId, time: Time, out: NodeOutput[]): LinkFrame | undefined {
    const said: FabricOutput[] = [];
    const frame = this.#fabric.pull(link, time, said);
    pass(said, out);
    return frame;
  }
}

function inputOf(input: NodeInput): FabricInput | undefined {
  switch (input.kind) {
    case "depart":
      return { kind: "stop", reason: input.how === "leave" ? "leave" : "restart" };
    case "persisted":
    case "notPersisted":
    case "generationKept":
    case "generationNotKept":
    case "rosterKept":
    case "snapshotKept":
    case "policyAdopted":
    case "policyShown":
    case "serve":
    case "controlStore":
    case "security":
    case "probed":
    case "resolved":
    case "publish":
    case "load":
    case "desired":
    case "leadersLeft":
    case "strangerRefused":
    case "unanswered":
    case "drain":
      return undefined;
    case "begin":
      return { kind: "tick" };
    case "tick":
    case "asked":
    case "answered":
    case "opened":
    case "received":
    case "closed":
    case "policy":
    case "policyRead":
    case "forget":
    case "maintain":
      return input;
  }
}

function pass(said: readonly FabricOutput[], out: NodeOutput[]): void {
  for (const output of said)
    if (
      output.kind !== "changed" &&
      output.kind !== "superseded" &&
      output.kind !== "generationLost" &&
      output.kind !== "offered" &&
      output.kind !== "ordered"
    )
      out.push(output);
}

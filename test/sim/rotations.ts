/**
 * Worlds in which an operator replaces roots in a random order, as the rules let it. The issuer sees the facts of other nodes late, nodes apply changes
 * of the roots late, and renew when they like. Every live node always accepts the certificates of all others.
 */
import { judgeDrop, judgeIssue, judgePublish, type RotationMember } from "../../src/control/identity/rotation.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { Rng } from "../../src/lib/rng.ts";
import type { Violation } from "./checks.ts";

const STEPS = 400;
const NODES = ["eu-1", "eu-2", "eu-3", "eu-4"];

interface WorldNode {
  root: string;
  roots: readonly string[];
}

export interface RotationOutcome {
  readonly violation: (Pick<Violation, "message"> & { readonly invariant: string }) | undefined;
  /** How often each step was carried out. */
  readonly happened: Readonly<Record<string, number>>;
}

class RotationWorld {
  readonly happened: Record<string, number> = {};
  readonly #rng: Rng;
  readonly #nodes = new Map<string, WorldNode>(NODES.map((id) => [id, { root: "r0", roots: ["r0"] }]));
  /** The facts of nodes, as the issuer has received them. */
  readonly #seen = new Map<string, RotationMember>();
  /** The roots of the certificates that were issued to nodes. */
  readonly #issued = new Map<string, string>();
  #published: readonly string[] = ["r0"];
  #issuing = "r0";
  #count = 0;

  constructor(seed: string | number) {
    this.#rng = new Rng(`rotations ${seed}`);
    for (const id of NODES) this.#announce(id);
  }

  /** Carries out a random step, and returns why a node is cut off. */
  step(): string | undefined {
    const id = NODES[this.#rng.int(NODES.length)] ?? "";
    const steps = [
      () => this.#announce(id),
      () => this.#announce(id),
      () => this.#change(id, { roots: this.#published }),
      () => this.#attempt("renewed", () => this.#renew(id)),
      () => this.#attempt("published", () => this.#publish()),
      () => this.#attempt("dropped", () => this.#drop()),
      () => void (this.#issuing = this.#anyRoot()),
    ];
    steps[this.#rng.int(steps.length)]?.();
    for (const [user, { root }] of this.#nodes)
      for (const [other, { roots }] of this.#nodes)
        if (!roots.includes(root)) return `${other} no longer accepts ${user}, which has ${root}`;
    return undefined;
  }

  get #state() {
    return { published: this.#published, members: [...this.#seen.values()] };
  }

  #anyRoot(): string {
    return this.#published[this.#rng.int(this.#published.length)] ?? "";
  }

  #announce(nodeId: string): void {
    const { root = "", roots = [] } = this.#nodes.get(nodeId) ?? {};
    this.#seen.set(nodeId, { nodeId, security: { root, roots } });
  }

  #change(nodeId: string, to: Partial<WorldNode>): void {
    const node = this.#nodes.get(nodeId);
    if (node !== undefined) Object.assign(node, to);
  }

  #attempt(what: string, act: () => void): void {
    try {
      act();
      this.happened[what] = (this.happened[what] ?? 0) + 1;
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      this.happened[error.reason] = (this.happened[error.reason] ?? 0) + 1;
    }
  }

  #renew(nodeId: string): void {
    judgeIssue(this.#issuing, this.#state);
    this.#issued.set(nodeId, this.#issuing);
    this.#change(nodeId, { root: this.#issuing });
  }

  #publish(): void {
    judgePublish(this.#published.length);
    this.#published = [...this.#published, `r${++this.#count}`];
  }

  #drop(): void {
    const root = this.#anyRoot();
    const recorded = [...this.#issued].flatMap(([node, under]) => (under === root ? [node] : []));
    judgeDrop(root, this.#state, this.#issuing === root ? [...recorded, "issuer"] : recorded, false);
    this.#published = this.#published.filter((each) => each !== root);
  }
}

export async function runSeed(seed: string | number): Promise<RotationOutcome> {
  const world = new RotationWorld(seed);
  const { happened } = world;
  for (let n = 0; n < STEPS; n++) {
    const message = world.step();
    if (message !== undefined) return { violation: { invariant: "accepted", message }, happened };
  }
  return { violation: undefined, happened };
}

/** Prevents answers under a policy that is older than a version known to this resolver (semantics.md, Resolver 15). */
import { isControlNamespace } from "../../catalog/entry/names.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { PolicySource } from "../../policy/set/verdict.ts";
import type { ResolverPorts } from "./ports.ts";

/** How long a call waits for a known version of the policy to arrive, in ms. */
const WAIT_MS = 500;
/** Largest number of attempts for a call if the data or policy changes while the call runs. */
export const TRIES = 4;
const RETRY_MS = 500;

/** Returns whether a call about this namespace can be answered now. Namespaces of the control plane do not need a policy. */
export function isPolicyHere({ policy }: Pick<ResolverPorts["machine"], "policy">, namespace: string): boolean {
  return policy.isReady || (namespace !== "" && isControlNamespace(namespace));
}

export class PolicyGate {
  readonly #ports: Pick<ResolverPorts, "machine" | "until">;
  readonly #policies: PolicySource;

  constructor(ports: Pick<ResolverPorts, "machine" | "until">, policies: PolicySource) {
    this.#ports = ports;
    this.#policies = policies;
  }

  /** As `isPolicyHere`. */
  isOpen(namespace: string): boolean {
    return isPolicyHere(this.#ports.machine, namespace);
  }

  /** Throws `not_ready` unless `isOpen`. Calls check this again after every wait, because the received data may refer to a newer policy. */
  check(namespace: string): void {
    if (this.isOpen(namespace)) return;
    throw new WaymarkError("not_ready", "this resolver is waiting for the current policy from an upstream", {
      retryMs: RETRY_MS,
    });
  }

  /**
   * Runs `act` when the gate is open, after a short wait if necessary. If the policy does not arrive in time, rejects with the error that `check`
   * throws.
   */
  whenOpen<T>(namespace: string, act: () => T | Promise<T>): T | Promise<T> {
    if (this.isOpen(namespace)) return act();
    return this.#ports
      .until(() => this.isOpen(namespace), WAIT_MS)
      .then(() => {
        this.check(namespace);
        return act();
      });
  }

  /**
   * Returns the result of `ask`. Repeats `ask` until the same policy was in force during the whole call and is not older than the policies under
   * which the result was made.
   */
  async judged<T>(namespace: string, ask: () => Promise<T>): Promise<T> {
    for (let tries = 0; tries < TRIES; tries++) {
      const { epoch } = this.#policies.policy;
      const found = await this.whenOpen(namespace, ask);
      if (this.isOpen(namespace) && this.#policies.policy.epoch === epoch) return found;
    }
    throw changesTooFast();
  }
}

export function changesTooFast(): WaymarkError {
  return new WaymarkError(
    "not_ready",
    `the requested data or the policy changed ${TRIES} times while this query ran; retry in ${RETRY_MS} ms`,
    {
      retryMs: RETRY_MS,
    },
  );
}

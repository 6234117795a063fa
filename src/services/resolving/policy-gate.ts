/** Keeps calls from being answered under a policy that is older than one of which this resolver has heard (semantics.md, Resolver 15). */
import { isControlNamespace } from "../../catalog/entry/names.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { PolicySource } from "../../policy/set/verdict.ts";
import type { ResolverPorts } from "./ports.ts";

/** How long a call waits for a version of the policy of which the resolver has heard. */
const WAIT_MS = 500;
/** How often something is asked for because it, or the policy, changed meanwhile. */
export const TRIES = 4;
const RETRY_MS = 500;

/** Whether a call about this namespace may be answered now. Namespaces of the control plane need no policy. */
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

  /** See `isPolicyHere`. */
  isOpen(namespace: string): boolean {
    return isPolicyHere(this.#ports.machine, namespace);
  }

  /** Throws `not_ready` unless `isOpen`. Whoever has waited for anything asks this again, because what it waited for may have named a newer policy. */
  check(namespace: string): void {
    if (this.isOpen(namespace)) return;
    throw new WaymarkError("not_ready", "this resolver does not have the policy that is in force, and answers nobody before it has", {
      retryMs: RETRY_MS,
    });
  }

  /** Lets a call wait a moment for a policy of which the resolver has heard. Throws as `check`, later. */
  whenOpen<T>(namespace: string, act: () => T | Promise<T>): T | Promise<T> {
    if (this.isOpen(namespace)) return act();
    return this.#ports
      .until(() => this.isOpen(namespace), WAIT_MS)
      .then(() => {
        this.check(namespace);
        return act();
      });
  }

  /** What `ask` brings, judged by the policy that was in force all the time, and is not older than those under which it was made. */
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
  return new WaymarkError("not_ready", "what is asked for, or the policy, changes faster than this query is answered; try again", {
    retryMs: RETRY_MS,
  });
}

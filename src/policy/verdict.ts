/** What policy says: the one function behind query, watch, DNS, UI and Explain (semantics.md, Policy; P11). */

export interface Verdict {
  readonly allowed: boolean;
  /** One word of semantics.md, Policy; `policy_disabled` while no policy was ever configured. */
  readonly reason: "policy_disabled";
}

const DISABLED: Verdict = { allowed: true, reason: "policy_disabled" };

/** Whether a viewer may see a namespace. No policy engine is built in yet: everything is allowed, and says so. */
export function viewerVerdict(): Verdict {
  return DISABLED;
}

/** Changes whenever a verdict may have; part of portable cursors. */
export const POLICY_EPOCH = "none";

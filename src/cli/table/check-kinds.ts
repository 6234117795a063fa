/** The form and options of each kind of check in the `--check` flag. */
export const CHECK_FLAG_KINDS = {
  grpc: { form: "grpc[:SERVICE]", options: ["target", "interval", "timeout", "failing", "passing", "tls"] },
  http: { form: "http[:/PATH]", options: ["target", "interval", "timeout", "failing", "passing", "status", "tls"] },
  tcp: { form: "tcp", options: ["target", "interval", "timeout", "failing", "passing"] },
  ttl: { form: "ttl", options: ["interval", "failing", "passing"] },
  alias: { form: "alias:NAMESPACE/NAME/INSTANCE", options: ["kind", "interval", "failing", "passing"] },
} as const;

/** The forms of all kinds, for help texts and errors. */
export function checkForms(): string {
  const all = Object.values(CHECK_FLAG_KINDS).map(({ form }) => form);
  return `${all.slice(0, -1).join(", ")} or ${all.at(-1)}`;
}

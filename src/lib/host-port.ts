/** `host:port` as people and URLs write it. */

/** An IPv6 literal goes into brackets. */
export function hostPort(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

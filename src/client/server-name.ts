/** The name of a server, as people and programs write it. */

const DEFAULT_PORT = 17_420;

/** `host:port` of a name, an IPv4 address or an IPv6 one in brackets; without a port it is 17420. Undefined for what is none. */
export function parseServer(text: string): string | undefined {
  const match = /^(?<host>\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(?::(?<port>\d{1,5}))?$/.exec(text);
  const port = Number(match?.groups?.["port"] ?? DEFAULT_PORT);
  return match && port >= 1 && port <= 65_535 ? `${match.groups?.["host"] ?? ""}:${port}` : undefined;
}

export const SERVER_RULE = "not host:port, such as 127.0.0.1:17420 or [::1]:17420";

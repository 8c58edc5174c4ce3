// A real OpenID provider for the tests: in memory, on this machine, ended with its standard input.
//   node provider.mjs FOLDER_OF_NODE_MODULES '{"seconds": 3600}'
// Prints its issuer as one line of JSON. Its own forms log anybody in (its developers' default).
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [folder, given] = process.argv.slice(2);
const found = createRequire(`${folder}/x.js`).resolve('oidc-provider');
const { default: Provider } = await import(pathToFileURL(found));
const { seconds = 3600 } = JSON.parse(given ?? '{}');
const resource = 'https://gateway.example';

const server = createServer((request, response) => handle(request, response));
let handle;
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: 'gateway-cli',
        application_type: 'native',
        token_endpoint_auth_method: 'none',
        redirect_uris: ['http://127.0.0.1/callback'],
        grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'],
      },
      {
        client_id: 'nightly-job',
        client_secret: 'of-a-test',
        redirect_uris: [],
        response_types: [],
        grant_types: ['client_credentials'],
      },
    ],
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({ sub: id, region: 'eu', groups: ['privacy-trained'] }),
    }),
    claims: { openid: ['sub', 'region', 'groups'] },
    conformIdTokenClaims: false,
    extraTokenClaims: () => ({ region: 'eu' }),
    ttl: { IdToken: seconds },
    features: {
      clientCredentials: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({
          scope: 'stream',
          audience: resource,
          accessTokenFormat: 'jwt',
          accessTokenTTL: seconds,
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
  });
  handle = provider.callback();
  process.stdout.write(`${JSON.stringify({ issuer })}\n`);
});
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));

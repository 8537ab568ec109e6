package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

var (
	publicAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
	secretAlgorithms = []string{"HS256", "HS384", "HS512"}
)

func (c *JWT) check() error {
	if err := c.checkKeys(); err != nil {
		return err
	}
	switch {
	case c.From != "" && c.From != "password" && c.From != "user_name":
		return fmt.Errorf(".jwt.from is %q: it must be password or user_name", c.From)
	case slices.Contains(c.Audience, ""):
		return errors.New(".jwt.audience has an empty value")
	case c.Leeway < 0 || c.Leeway > 5*time.Minute:
		return fmt.Errorf(".jwt.leeway is %s: it must be at most 5 minutes", c.Leeway)
	case c.Refresh != 0 && (c.Refresh < time.Minute || c.Refresh > 7*24*time.Hour):
		return fmt.Errorf(".jwt.refresh is %s: it must be a minute to 7 days", c.Refresh)
	}
	return nil
}

func (c *JWT) checkKeys() error {
	places := 0
	for _, p := range []string{c.Keys, c.URL, c.Secret} {
		if p != "" {
			places++
		}
	}
	allowed := publicAlgorithms
	if c.Secret != "" {
		allowed = secretAlgorithms
	}
	switch {
	case places != 1:
		return errors.New(".jwt: exactly one of keys, url and secret must be set")
	case len(c.Algorithms) == 0:
		return fmt.Errorf(".jwt.algorithms is missing: name those of %s that the issuer uses", strings.Join(allowed, ", "))
	case c.URL == "" && (c.CA != "" || c.Refresh != 0 || c.Insecure):
		return errors.New(".jwt: ca, refresh and insecure are for a url")
	}
	for _, a := range c.Algorithms {
		if !slices.Contains(allowed, a) {
			return fmt.Errorf(".jwt.algorithms has %q: with these keys it must be one of %s", a, strings.Join(allowed, ", "))
		}
	}
	if c.URL == "" {
		return nil
	}
	if err := checkURL(c.URL, c.Insecure); err != nil {
		return fmt.Errorf(".jwt.url %w", err)
	}
	return nil
}

// jwtSource accepts tokens.
type jwtSource struct {
	config JWT
	parser *jwt.Parser
	fixed  keys        // from a file; unset with remote
	remote *remoteKeys // nil with fixed
}

// keys find the key that a token is verified with.
type keys interface {
	find(*jwt.Token) (any, error)
}

func openJWT(c *JWT, a *Authenticator, old *state) (*jwtSource, error) {
	s := &jwtSource{config: *c, parser: c.parser(a.clock.Now)}
	if s.config.UserClaim == "" {
		s.config.UserClaim = "sub"
	}
	var err error
	switch {
	case c.URL != "":
		s.remote, err = openRemoteKeys(c, a, old)
	case c.Secret != "":
		s.fixed, err = readSecret(c.Secret)
	default:
		s.fixed, err = readKeys(c.Keys)
	}
	if err != nil {
		return nil, fmt.Errorf("jwt: %w", err)
	}
	return s, nil
}

func (c *JWT) parser(now func() time.Time) *jwt.Parser {
	options := []jwt.ParserOption{
		jwt.WithValidMethods(c.Algorithms), jwt.WithExpirationRequired(), jwt.WithStrictDecoding(),
		jwt.WithTimeFunc(now), jwt.WithLeeway(c.Leeway),
	}
	if c.Issuer != "" {
		options = append(options, jwt.WithIssuer(c.Issuer))
	}
	if len(c.Audience) > 0 {
		options = append(options, jwt.WithAudience(c.Audience...))
	}
	return jwt.NewParser(options...)
}

func (s *jwtSource) judge(ctx context.Context, _ turns, q *question) verdict {
	token := string(q.Password)
	if s.config.From == "user_name" {
		token = q.userName()
	}
	if !looksLikeToken(token) {
		return undecided()
	}
	claims, err := s.verify(ctx, token)
	switch {
	case errors.Is(err, errNoKeys):
		return notNow("the keys of the token's issuer have not been fetched yet")
	case err != nil:
		return refuse(tokenFault(err))
	}
	return s.userOf(claims, q)
}

// userOf is who the token is for.
func (s *jwtSource) userOf(claims jwt.MapClaims, q *question) verdict {
	user, _ := claims[s.config.UserClaim].(string)
	switch {
	case !validUser(user):
		return refuse("token has no user name in the claim " + s.config.UserClaim)
	case s.config.From != "user_name" && q.HasUser && q.userName() != user && !s.config.AnyUserName:
		return refuse("user name is not that of the token")
	}
	return accept(user)
}

// verify checks a token. If its key is unknown, the issuer may have a new one.
func (s *jwtSource) verify(ctx context.Context, token string) (jwt.MapClaims, error) {
	if s.remote == nil {
		return s.verifyWith(token, s.fixed)
	}
	known := s.remote.known()
	if known != nil {
		claims, err := s.verifyWith(token, known)
		if !errors.Is(err, jwkset.ErrKeyNotFound) {
			return claims, err
		}
	}
	if known = s.remote.newer(ctx, known); known == nil {
		return nil, errNoKeys
	}
	return s.verifyWith(token, known)
}

func (s *jwtSource) verifyWith(token string, k keys) (jwt.MapClaims, error) {
	claims := jwt.MapClaims{}
	_, err := s.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		if _, critical := t.Header["crit"]; critical { // RFC 7515, 4.1.11: refuse what one does not understand
			return nil, errCritical
		}
		return k.find(t)
	})
	return claims, err
}

var (
	errNoKeys   = errors.New("there are no keys yet")
	errCritical = errors.New("the token has critical extensions")
)

// tokenFaults say what is wrong with a token without repeating anything of it.
var tokenFaults = []struct {
	err  error
	text string
}{
	{jwt.ErrTokenExpired, "token has expired"},
	{jwt.ErrTokenNotValidYet, "token is not valid yet"},
	{jwt.ErrTokenInvalidIssuer, "token is from another issuer"},
	{jwt.ErrTokenInvalidAudience, "token is for another audience"},
	{jwt.ErrTokenRequiredClaimMissing, "token lacks a claim that is required (exp, iss or aud)"},
	{errCritical, "token has critical extensions"},
	{jwkset.ErrKeyNotFound, "token is signed with an unknown key"},
	{jwt.ErrTokenSignatureInvalid, "token has a wrong signature or algorithm"},
}

func tokenFault(err error) string {
	for _, f := range tokenFaults {
		if errors.Is(err, f.err) {
			return f.text
		}
	}
	return "token is malformed"
}

// looksLikeToken tells a token in compact form (RFC 7515, 7.1) from a password.
func looksLikeToken(s string) bool {
	header, rest, found := strings.Cut(s, ".")
	if !found || strings.Count(rest, ".") != 1 {
		return false
	}
	text, err := base64.RawURLEncoding.DecodeString(header)
	return err == nil && len(text) > 0 && text[0] == '{'
}
